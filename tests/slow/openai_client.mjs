// What a program does with npm's openai: URL and the node_modules folder come as arguments, what it got goes out as JSON.
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [url, modules] = process.argv.slice(2);
const OpenAI = createRequire(join(resolve(modules), "here.js"))("openai").OpenAI;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const asked = { model: "scripted", messages: [{ role: "user", content: "Name three colours." }] };
const found = {};

found.models = (await client.models.list()).data.map((model) => model.id);
found.whole = await client.chat.completions.create(asked);

found.pieces = [];
const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  if (chunk.choices.length) found.pieces.push(chunk.choices[0].delta.content ?? "");
  found.usage = chunk.usage ?? found.usage;
}

const runner = client.chat.completions.stream({ ...asked, model: "scripted+principles", n: 1 });
found.gathered = (await runner.finalChatCompletion()).choices[0].message.content;

found.raw = (await client.completions.create({ model: "scripted", prompt: "\n### User\nhello" })).choices[0].text;
found.fault = await client.chat.completions
  .create({ ...asked, model: "gpt-4" })
  .catch((fault) => ({ name: fault.constructor.name, status: fault.status, code: fault.code }));

const long = await client.chat.completions.create({
  ...asked, stream: true, messages: [{ role: "user", content: "at length" }],
});
for await (const chunk of long) {
  found.left = chunk.id;
  break; // which closes the connection
}
console.log(JSON.stringify(found));
