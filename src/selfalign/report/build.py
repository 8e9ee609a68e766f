"""A run directory -> RUN/report.html: one self-contained page without network or external fonts.

Everything but the search over records is made here, as HTML and SVG: it prints, follows the reader's light or dark
setting, and is there before any script has run. Plotly would add 4.7 MB to each page and Vega 0.8 MB, which draw
nothing on paper or without scripts; neither has a theme that follows the reader's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfalign.errors import UserError
from selfalign.records import write_atomically
from selfalign.report.by_type import by_type
from selfalign.report.explorer import explorer
from selfalign.report.flow import flow
from selfalign.report.gates import gates, rounds
from selfalign.report.held_out import held_out
from selfalign.report.ledger import ledger
from selfalign.report.lengths import lengths
from selfalign.report.measures import measures
from selfalign.report.novelty import novelty
from selfalign.report.page import render, script, script_hash
from selfalign.report.principles import principle_report
from selfalign.report.read import RunFiles, read_run
from selfalign.report.samples import samples
from selfalign.report.sankey import sankey
from selfalign.report.spending import spending
from selfalign.report.stages import decontaminations, identity_overlaps, rejections, stage_rows, total_row
from selfalign.report.summary import summary
from selfalign.report.sunburst import sunburst
from selfalign.report.training import trainings
from selfalign.report.verbs import INSTALL, verbs


def build_report(run: Path, output: Path | None = None, is_running: bool = True) -> Path:
    """Write the report of a run, finished or not, and return its path. Raises UserError where `run` is no run.

    `is_running` False: no process works on it, so that a stage said to be running was stopped.
    """
    path = output or run / "report.html"
    if path.is_dir():
        raise UserError(f"{path} is a directory", "name a file: --output report.html")
    write_atomically(path, render_report(read_run(run, is_running)))
    return path


def render_report(run: RunFiles) -> str:
    """The page. Every text is escaped: what a base model writes is hostile."""
    return render("report.html.j2", sections(run))


def sections(run: RunFiles) -> dict[str, Any]:
    """What the template shows, by name."""
    rows, fine_tunings, comparison = stage_rows(run), trainings(run), held_out(run)
    asked, repeated, went, asked_for = gates(run), rounds(run), flow(run), verbs(run)
    lines, base_model = ledger(run.manifest), run.manifest.get("base_model", "an unnamed base model")
    found = decontaminations(run)
    return {
        "name": run.name,
        "manifest": run.manifest,
        "base_model": base_model,
        "principle_names": run.constitution.principle_names if run.constitution else {},
        "summary": summary(base_model, lines, rows, fine_tunings, comparison, asked, repeated),
        "flow_drawing": sankey(went) if went else None,
        "stages": rows,
        "spending": spending(rows, run.recipe),
        "total": total_row(rows),
        "rejections": rejections(run),
        "decontaminations": found,
        "identity_overlaps": identity_overlaps(found),
        "verbs": asked_for,
        "arcs": sunburst(asked_for.rows, asked_for.parsed) if asked_for else [],
        "install_parser": INSTALL,
        "novelty": novelty(run),
        "lengths": lengths(run),
        "by_type": by_type(run),
        "principles": principle_report(run),
        "trainings": fine_tunings,
        "gates": asked,
        "rounds": repeated,
        "held_out": comparison,
        "measures": measures(run),
        "samples": samples(run),
        "explorer": explorer(run),
        "script": script(),
        "script_hash": script_hash(),
        "ledger": lines,
        "recipe": run.recipe,
    }
