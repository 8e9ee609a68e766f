"use strict";
// Search, filters and provenance of the records in this page. All text goes in as text, never as markup.
(() => {
  const source = document.getElementById("record-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const records = data.records;
  const byKey = new Map(records.map((record) => [record.k, record]));
  const children = new Map();
  for (const record of records) {
    if (!record.p) continue;
    if (!children.has(record.p)) children.set(record.p, []);
    children.get(record.p).push(record);
  }
  const typeNames = Object.keys(data.types);
  const PAGE = 40;
  const find = (id) => document.getElementById(id);
  const controls = { text: find("find-text"), stage: find("find-stage"), type: find("find-type"),
    principle: find("find-principle"), verdict: find("find-verdict") };
  const list = find("found"), more = find("found-more"), total = find("found-count"), detail = find("record-detail");
  let found = [], shown = 0, selected = null;

  const stageOf = (record) => data.stages[record.s];
  const baseOf = (record) => stageOf(record).split("-")[0];
  const instructionOf = (record) =>
    baseOf(record) === "responses" || baseOf(record) === "elaborations" ? byKey.get(record.p) : record;
  const questionOf = (record) => record.u || (instructionOf(record) || {}).u || "";
  const ownText = (record) => record.a || record.h || record.u || record.o || questionOf(record);
  const lower = (record) => record.lower ??= [questionOf(record), record.a, record.h, record.o, record.k]
    .filter(Boolean).join("\n").toLowerCase();

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function options(select, pairs) {
    for (const [value, label] of pairs) {
      const option = make("option", "", label);
      option.value = value;
      select.append(option);
    }
  }

  function tally(values) {
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
    return counts;
  }

  const counted = (counts, label) =>
    [...counts].map(([value, number]) => [value, `${label(value)} (${number.toLocaleString("en")})`]);

  function fillControls() {
    const stages = tally(records.map((record) => record.s));
    options(controls.stage, counted(new Map([...stages].sort((a, b) => a[0] - b[0])), (at) => data.stages[at]));
    const types = tally(records.map((record) => record.y || ""));
    options(controls.type, counted(new Map([...types].sort()), (name) => name || "without a type"));
    const principles = tally(records.flatMap((record) => record.n || []));
    const named = (number) => `${number} ${(data.principles[number] || ["?"])[0]}`;
    options(controls.principle, counted(new Map([...principles].sort((a, b) => a[0] - b[0])), named));
    const filters = tally(records.map((record) => record.f || "").filter(Boolean));
    options(controls.verdict, counted(new Map([...filters].sort((a, b) => b[1] - a[1])), (name) => `rejected: ${name}`));
  }

  // The value of an option that was not chosen is "*": the empty type is a type.
  function search() {
    const words = controls.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const [stage, type, principle, verdict] =
      ["stage", "type", "principle", "verdict"].map((name) => controls[name].value);
    found = records.filter((record) =>
      (stage === "*" || record.s === Number(stage)) &&
      (type === "*" || (record.y || "") === type) &&
      (principle === "*" || (record.n || []).includes(Number(principle))) &&
      (verdict === "*" || (verdict === "+" ? !record.f : verdict === "-" ? record.f : record.f === verdict)) &&
      words.every((word) => lower(record).includes(word)));
    park();
    list.replaceChildren();
    shown = 0;
    total.textContent = `${found.length.toLocaleString("en")} of ${records.length.toLocaleString("en")} records`;
    showMore();
  }

  function showMore() {
    for (const record of found.slice(shown, shown + PAGE)) list.append(item(record));
    shown = Math.min(found.length, shown + PAGE);
    more.hidden = shown >= found.length;
    mark();
  }

  function item(record) {
    const entry = make("li"), button = make("button");
    button.type = "button";
    button.dataset.key = record.k;
    const head = make("span", "item-head");
    head.append(make("b", "", stageOf(record)), verdictMark(record));
    if (record.y) head.append(make("small", "", record.o ? `${record.o} · ${record.y}` : record.y));
    const text = make("span", "item-text", ownText(record).slice(0, 220) || "(empty)");
    text.dir = "auto";
    button.append(head, text);
    button.addEventListener("click", () => go(record.k));
    entry.append(button);
    return entry;
  }

  const verdictMark = (record) =>
    record.f ? make("span", "mark bad", record.f) : make("span", "mark good", "accepted");

  function go(key) {
    if (location.hash === `#record=${key}`) show(key);
    else location.hash = `record=${key}`;
  }

  function mark() {
    for (const button of list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.key === selected));
    }
  }

  // The detail stands beside the list, or on a narrow page under the record that was asked for.
  function park() {
    find("record-pane").append(detail);
  }

  const isNarrow = () => matchMedia("(max-width: 62rem)").matches;

  function place() {
    const button = selected && list.querySelector(`button[data-key="${CSS.escape(selected)}"]`);
    if (button && isNarrow()) button.parentElement.append(detail);
    else park();
  }

  function show(key) {
    const record = byKey.get(key);
    selected = key;
    mark();
    detail.replaceChildren();
    if (!record) {
      detail.append(make("p", "absent", `${key} is not among the records in this page: selfalign samples RUN --json has them.`));
    } else {
      detail.append(...provenance(record));
    }
    place();
    detail.hidden = false;
  }

  function provenance(record) {
    const parts = [make("h3", "", "Where this comes from")];
    const instruction = instructionOf(record);
    if (instruction !== record) parts.push(...answer(record));
    if (instruction) parts.push(...instructionSteps(instruction, instruction === record));
    else if (record.u) parts.push(step("Instruction", record.u));
    const related = relatives(record, instruction);
    if (related.length) {
      parts.push(make("h4", "", "Made from the same, or from this"));
      const links = make("ul", "relatives");
      for (const other of related.slice(0, 12)) {
        const entry = make("li");
        entry.append(link(other, `${stageOf(other)}: ${ownText(other).slice(0, 90)}`), verdictMark(other));
        links.append(entry);
      }
      parts.push(links);
      if (related.length > 12) parts.push(make("p", "note", `and ${related.length - 12} more`));
    }
    return parts;
  }

  function answer(record) {
    const name = baseOf(record) === "elaborations" ? "Elaboration" : "Response";
    const parts = [step(name, record.a || "(no text)", record, true)];
    if (record.h) parts.push(step("Internal thought, pruned before training", record.h));
    if (record.n) {
      const cited = step("Principles that the thought cites");
      const rules = make("ul", "rules");
      for (const number of record.n) {
        const [rule, text] = data.principles[number] || ["(not in the constitution)", ""];
        const entry = make("li");
        entry.append(make("b", "", `${number} ${rule}`), document.createTextNode(text ? `: ${text}` : ""));
        rules.append(entry);
      }
      cited.append(rules);
      parts.push(cited);
    }
    return parts;
  }

  function instructionSteps(record, isSelected) {
    if (baseOf(record) === "topics") return topicSteps(record, true);
    const parts = [step("Instruction", record.u || "(no text)", record, isSelected)];
    const topic = byKey.get(record.p);
    if (topic) parts.push(...topicSteps(topic, false));
    else if (record.o) parts.push(step("Topic", record.o));
    if (record.e) parts.push(seeds(record));
    return parts;
  }

  function topicSteps(topic, isSelected) {
    const parts = [step("Topic", topic.o || "(no text)", topic, isSelected)];
    const seed = data.types[topic.y];
    const written = seed ? `Human-written seed: ${seed[1]} (topic: ${seed[0]})` : "";
    parts.push(step(`Instruction type: ${topic.y}`, written));
    return parts;
  }

  function seeds(record) {
    const part = step(record.y ? "Worked examples in its prompt, human-written" : "Seed instructions in its prompt, human-written");
    const items = make("ul", "rules");
    for (const at of record.e) {
      const text = record.y ? (data.types[typeNames[at]] || [])[1] : data.seeds[at];
      items.append(make("li", "", text || "?"));
    }
    part.append(items);
    return part;
  }

  function step(label, text, record, isSelected) {
    const part = make("section", isSelected ? "step selected" : "step");
    const head = make("h4", "", label);
    if (record) head.append(" ", verdictMark(record));
    part.append(head);
    if (text) {
      const body = make("div", "text", text);
      body.dir = "auto";
      part.append(body);
    }
    if (record && record.r) part.append(make("p", "reason", record.r));
    if (record) part.append(origin(record, isSelected));
    return part;
  }

  function origin(record, isSelected) {
    const line = make("p", "origin");
    const [prompt, completion] = record.t || [0, 0];
    const facts = [record.m && `by ${record.m}`, record.w && `from ${record.w}`, `${prompt.toLocaleString("en")} + ${completion.toLocaleString("en")} tokens`];
    line.append(facts.filter(Boolean).join(", "), ", key ");
    line.append(isSelected ? make("code", "", record.k) : link(record, record.k));
    return line;
  }

  function link(record, text) {
    const anchor = make("a", "", text);
    anchor.href = `#record=${record.k}`;
    return anchor;
  }

  function relatives(record, instruction) {
    const family = [...(children.get(record.k) || [])];
    if (instruction && instruction !== record) family.push(...(children.get(instruction.k) || []));
    return family.filter((other) => other !== record);
  }

  function followHash() {
    const key = (/^#record=(.+)$/.exec(location.hash) || [])[1];
    if (!key) return;
    show(decodeURIComponent(key));
    const box = detail.getBoundingClientRect();
    if (box.top < 0 || box.top > innerHeight * 0.7) detail.scrollIntoView({ block: "start" });
  }

  let waiting = 0;
  controls.text.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 120); });
  for (const name of ["stage", "type", "principle", "verdict"]) controls[name].addEventListener("change", search);
  more.addEventListener("click", showMore);
  find("find-clear").addEventListener("click", () => {
    controls.text.value = "";
    for (const name of ["stage", "type", "principle", "verdict"]) controls[name].value = "*";
    search();
  });
  addEventListener("hashchange", followHash);
  fillControls();
  find("records").hidden = false;
  for (const anchor of document.querySelectorAll("[data-needs-script]")) anchor.hidden = false;
  search();
  followHash();
  if (!selected && !isNarrow() && found.length) show(found[0].k);
})();
