"""Options as people read them: nearly as a job file would have them, times in seconds, memory in bytes."""

from __future__ import annotations

from qm.vocabulary.options import Options, to_json

OWN = frozenset(("interpreter", "slurm", "ntasks", "env"))
"""No keys, but what was made of a script's first lines."""

ELSEWHERE = frozenset(("nb_proc", "info", "size", "priority"))
"""Keys that stand among the facts of a job already."""


def option_facts(options: Options) -> list[tuple[str, str]]:
    """The keys that were given, with their values; what is said elsewhere of a job is left out."""
    facts = []
    for key, value in to_json(options).items():
        if key == "script" and options.interpreter:
            value = f"{' '.join(options.interpreter)} {value}"
        if key not in OWN | ELSEWHERE:
            facts.append((key, _written(value)))
    return facts + [(f"env_{name}", value) for name, value in options.env]


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
