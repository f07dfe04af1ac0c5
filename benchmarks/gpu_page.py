"""What `gpu.py` found, on a page that a person reads: verdict, figures, curve, then every table."""

from machine import Row, markdown, plain

BARS = 40  # characters of a whole bar
CURVE = "curve of the real run"


def page(content: Row) -> str:
    """Markdown of all that the JSON holds."""
    tables, ended = content["tables"], content.get("parts", [])
    judged = [(part, row) for part in tables for row in tables[part] if "verdict" in row]
    bad = [(part, row) for part, row in judged if row["verdict"] != "PASS"]
    undone = [row for row in ended if not row["ended"].startswith("done")]
    word = "Everything holds" if not bad and not undone else "Not everything holds"
    lines = ["# The kit on this machine", ""]
    lines += [f"**{word}**: {len(judged) - len(bad)} of {len(judged)} bars met, "
              f"{len(ended) - len(undone)} of {len(ended)} parts done.", ""]  # fmt: skip
    lines += [f"- {part}, missed: {told(row)}" for part, row in bad]
    lines += [f"- {row['part']}, {row['ended']}" for row in undone]
    lines += ["", ", ".join(f"{k} {plain(v)}" for k, v in content["machine"].items()), ""]
    if CURVE in tables:
        lines += [f"## {CURVE}", "", *curve(tables[CURVE])]
    for part, rows in tables.items():
        if part != CURVE:
            lines += [f"## {part}", "", markdown(rows), ""]
    lines += ["## Notes", "", *(f"- {note}" for note in content["notes"])]
    return "\n".join(lines) + "\n"


def told(row: Row) -> str:
    """A row in words."""
    return ", ".join(f"{key} {plain(value)}" for key, value in row.items() if value is not None)


def curve(rows: list[Row]) -> list[str]:
    """Accuracy by seconds as bars of text."""
    lines = ["```text", " seconds  dev accuracy"]
    for row in rows:
        bar = "#" * round(BARS * row["dev accuracy"])
        lines.append(f"{row['seconds']:8.1f}  {row['dev accuracy']:6.1%} {bar}")
    return [*lines, "```", ""]
