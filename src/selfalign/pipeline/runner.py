"""The runner: alone opens engines, writes files, shows progress, resumes and counts (DESIGN.md section 3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfalign.constitution.loading import load_constitution
from selfalign.engines.base import Engine
from selfalign.errors import UserError
from selfalign.pipeline import training
from selfalign.pipeline.board import Board
from selfalign.pipeline.datasets import Dataset, write_dataset
from selfalign.pipeline.decontaminate import sieve_of
from selfalign.pipeline.drive import Generation
from selfalign.pipeline.elaborations import ElaborationsStage
from selfalign.pipeline.engines import open_engine
from selfalign.pipeline.evaluation import Evaluation, write_comparison
from selfalign.pipeline.gate import failed, pass_gate
from selfalign.pipeline.held_out import VARIANTS, HeldOutStage, Variant, split_held_out
from selfalign.pipeline.instructions import InstructionsStage
from selfalign.pipeline.manifest import STAGES, StageName, StageState
from selfalign.pipeline.progress import Progress, counts, logging_to, quiet_libraries, say
from selfalign.pipeline.readiness import check_extras, check_inputs, check_same_engine, idle_replicas
from selfalign.pipeline.responses import ResponsesStage
from selfalign.pipeline.round_files import finish_keeping, model_of_round, provenance, settle, stop_reason
from selfalign.pipeline.rounds import exemplars_of_round
from selfalign.pipeline.run_directory import RunDirectory
from selfalign.pipeline.settings import settings_hash
from selfalign.pipeline.sources.given import given_instructions
from selfalign.pipeline.stage import Context, GenerationStage
from selfalign.pipeline.topics import TopicsStage
from selfalign.recipe import Recipe, SamplingOptions
from selfalign.records import Record

if TYPE_CHECKING:
    from selfalign.training.session import Leader

TRAINING = ("engrave", "clone")


class Runner:
    """Runs the stages of one recipe in one directory."""

    def __init__(
        self,
        recipe: Recipe,
        run: RunDirectory,
        build_report: Callable[[Path], Path],
        evaluation: Evaluation,
        leader: Leader | None = None,
    ) -> None:
        self.recipe = recipe
        self.leader = leader
        self.run_directory = run
        self.build_report = build_report
        self.evaluation = evaluation
        self.constitution = load_constitution(recipe.constitution, identity_name=recipe.identity_name)
        self.opened: tuple[str, Engine] | None = None
        self.board = Board(run, recipe.price)
        self.loading_seconds = 0.0

    def run(self, until: str = STAGES[-1]) -> None:
        """All stages up to `until` that are not done. Ctrl-C and faults leave a run that goes on where it stopped."""
        with self.run_directory.locked():
            self.run_directory.prepare(self.recipe, self.constitution)
            finish_keeping(self.run_directory)
            names = list(self.run_directory.stages)
            names = names[: names.index(until) + 1]
            check_extras(self.run_directory, self.recipe, self.evaluation, names)
            if all(self.run_directory.stages[name].state in ("done", "skipped") for name in names):
                say(f"{self.run_directory.path}: every stage up to {until} is done already")
            else:
                quiet_libraries()
            with logging_to(self.run_directory.path / "logs" / "run.log"):
                self.board = Board(self.run_directory, self.recipe.price)
                try:
                    with self.board.told():
                        self._run_stages(names)
                finally:
                    self._close_engine()

    def _run_stages(self, names: Sequence[str]) -> None:
        check_inputs(self.run_directory, self.recipe, self.constitution)
        if idle := idle_replicas(self.recipe):
            say(idle)
        last_round = str(StageName("engrave", self.recipe.rounds.count))
        for name in names:
            if self._is_due(name):
                self._run_stage(name)
            if name == last_round and self.recipe.rounds.count > 1:
                settle(self.run_directory, self.recipe.rounds, self._close_engine)

    def _is_due(self, name: str) -> bool:
        """Not what is done, and no further round where one was worse than the one before it."""
        state = self.run_directory.stages[name]
        if state.state == "done" or StageName.of(name).round == 1:
            return state.state != "done"
        reason = stop_reason(self.run_directory, self.recipe.rounds)
        if reason and state.note != reason:
            state.state, state.note = "skipped", reason
            self.run_directory.save()
            say(f"{name}: skipped, {reason}")
        return not reason

    def _run_stage(self, name: str) -> None:
        state = self.run_directory.stages[name]
        state.state, state.failure, state.note = "running", "", ""
        self.board.begin(name)
        start, before = time.monotonic(), state.seconds

        def save() -> None:  # called by the judging thread while jobs are driven, when nothing else touches `state`
            state.seconds = before + time.monotonic() - start
            state.engine_seconds, self.loading_seconds = state.engine_seconds + self.loading_seconds, 0.0
            self.run_directory.save()

        save()
        try:
            self._work(name, state, save)
        except UserError as fault:
            state.state, state.failure = "failed", fault.message
            save()
            raise
        state.state = "done"
        save()
        say(f"{name}: done in {state.seconds:.0f} s{counts(state)}")

    def _work(self, name: str, state: StageState, save: Callable[[], None]) -> None:
        stage = StageName.of(name)
        if stage.base in TRAINING:
            self._train_and_gate(stage, state, save)
        elif name == "evaluate":
            self._evaluate(state, save)
        elif name == "report":
            self.build_report(self.run_directory.path)
        else:
            self._generate(self._generation_stage(stage), state, save)

    # ------------------------------------------------------------------------------------------------- generation

    def _context(self, stage: str, model: str, options: SamplingOptions) -> Context:
        engine = self._engine(model)
        chat_format = engine.chat_format(self.constitution.style("standard"))
        digest = self.run_directory.manifest["constitution"]["hash"]
        label = provenance(self.run_directory, model) if model != "base" else self.recipe.base_model
        described = engine.describe() | {"model": label}
        return Context(stage, self.recipe, self.constitution, digest, options, described, chat_format)

    def _generation_stage(self, stage: StageName) -> GenerationStage:
        recipe, run, name = self.recipe, self.run_directory, str(stage)
        if name == "topics":
            return TopicsStage(self._context(name, "base", recipe.topics), recipe.topics)
        if name == "instructions":
            context = self._context(name, "base", recipe.instructions)
            topics, wanted = run.accepted("topics"), recipe.instructions.topic_guided
            if wanted and not topics:
                say(f"{name}: none of the {wanted} topic-guided ones: topics.per_type 1 asks for no topic")
            return InstructionsStage(context, recipe.instructions, topics, given_instructions(run, recipe))
        instructions, _ = self._split()
        if stage.base == "responses":
            model = "base" if stage.round == 1 else model_of_round(run, stage.round - 1)
            shown = exemplars_of_round(self.constitution, stage.round, recipe.seed)
            context = self._context(name, model, recipe.responses)
            return ResponsesStage(context, recipe.responses, instructions, model, shown)
        context = self._context(name, "engraved", recipe.elaborations)
        return ElaborationsStage(context, recipe.elaborations, instructions)

    def _split(self) -> tuple[Sequence[Record], Sequence[Record]]:
        """Instructions for training, and those held out."""
        return split_held_out(self.run_directory.accepted("instructions"), self.recipe.evaluate.held_out)

    def _generate(
        self, stage: GenerationStage, state: StageState, save: Callable[[], None], part: str = ""
    ) -> Sequence[Record]:
        store = self.run_directory.store(stage.name)
        check_same_engine(self.run_directory, stage, store)
        progress = Progress(stage.name, stage.goal, len(store.accepted), board=self.board)
        opener = lambda: self._engine(stage.model)  # noqa: E731
        is_further = StageName.of(stage.name).round > 1  # whose collapse ends the rounds, not the run
        abort = self.recipe.abort.model_copy(update={"min_yield": 0.0}) if is_further else self.recipe.abort
        try:
            generation = Generation(stage, store, state, opener, save, progress, abort)
            generation.run(self.recipe.chunk_size, part)
        finally:
            progress.close()
        may_be_empty = is_further or (stage.name == "topics" and not stage.goal)  # per_type 1 asks for no topics
        if not store.accepted and not may_be_empty:
            raise UserError(
                f"stage {stage.name} accepted nothing of {len(store.rejected)} candidates",
                f"selfalign samples {self.run_directory.path} --stage {stage.name} --rejected",
                exit_code=1,
            )
        return store.accepted

    def _evaluate(self, state: StageState, save: Callable[[], None]) -> None:
        """Answers and tasks variant by variant, so that each model is opened once; then all of them side by side."""
        _, held_out = self._split()
        options, folder = self.recipe.evaluate, self.run_directory.path / "evaluation"
        answers: dict[Variant, Sequence[Record]] = {}
        opened = self.opened[0] if self.opened else ""
        for variant in sorted(VARIANTS, key=lambda variant: VARIANTS[variant][0] != opened):
            model, _ = VARIANTS[variant]
            if held_out:
                context = self._context(f"evaluate/{variant}", model, options)
                answers[variant] = self._generate(HeldOutStage(context, variant, held_out), state, save, part=variant)
            if options.tasks:
                engine = self._engine(model)
                self.evaluation.measure_stage(variant, engine, self.constitution, options.tasks, options.limit, folder)
                save()
        state.accepted = sum(map(len, answers.values()))
        in_order = {variant: answers[variant] for variant in VARIANTS if variant in answers}
        write_comparison(self.evaluation, in_order, self.constitution, options.tasks, folder)

    # --------------------------------------------------------------------------------------------------- training

    def _train_and_gate(self, stage: StageName, state: StageState, save: Callable[[], None]) -> None:
        run, sieve = self.run_directory, sieve_of(self.recipe.decontaminate, self.evaluation.benchmark_texts)
        dataset = training.stage_dataset(run, self.recipe, self.constitution, stage, sieve)
        model = model_of_round(run, stage.round) if stage.base == "engrave" else "final"
        settings = settings_hash(self.recipe, stage.base)
        if state.trained_with != settings or not (run.path / "models" / model).is_dir():
            self._close_engine()
            state.training, state.gate, state.trained_with = None, None, ""
            state.decontamination = sieve.found.to_dict() if sieve.found else None
            if sieve.found and (sieve.found.overlapping or sieve.found.identity.overlapping):
                say(f"{stage}: {sieve.found.in_words}")
            write_dataset(run.path / "datasets" / str(stage), str(stage), dataset, self.recipe, sieve.found)
            self._train(stage, state, run.path / "models" / model)
            state.trained_with = settings if state.training else ""
            save()
        if state.training:
            self._gate(stage, state, dataset, model)

    def _train(self, stage: StageName, state: StageState, output: Path) -> None:
        if not self.recipe.engine.has_weights:
            say(f"{stage}: the scripted engine has no weights, so nothing is trained and no gate is asked")
            return
        run, leader = self.run_directory, self.leader
        result = training.train(run, self.recipe, self.constitution, stage, output, leader, self.board)
        state.training = result._asdict()
        state.engine_seconds += result.seconds

    def _gate(self, stage: StageName, state: StageState, dataset: Dataset, model: str) -> None:
        """Ask the model; one that fails ends the run, unless told otherwise. A further round's ends the rounds only."""
        output, options = self.run_directory.path / "models" / model, self.recipe.gate
        context = lambda: self._context(f"gate/{stage}", model, options)  # noqa: E731
        start = time.monotonic() - self.loading_seconds  # which `save` adds
        opener, rows = lambda: self._engine(model), dataset.validation
        state.gate = pass_gate(state, context, opener, rows, options, output, self.board)
        state.engine_seconds += time.monotonic() - start - self.loading_seconds
        if state.gate and not state.gate["passed"] and options.on_failure == "stop" and stage.round == 1:
            raise failed(str(stage), state.gate, self.run_directory.path, output)

    # ----------------------------------------------------------------------------------------------------- engines

    def _engine(self, model: str) -> Engine:
        """The engine with `base`, `engraved` or `final` loaded; one is open at a time."""
        if self.opened and self.opened[0] == model:
            return self.opened[1]
        self._close_engine()
        path = self.recipe.base_model if model == "base" else str(self.run_directory.path / "models" / model)
        start = time.monotonic()
        self.opened = (model, open_engine(self.recipe.engine, path))
        self.loading_seconds += time.monotonic() - start
        return self.opened[1]

    def _close_engine(self) -> None:
        if self.opened:
            self.opened[1].close()
            self.opened = None
