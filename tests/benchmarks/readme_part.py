"""Where a benchmark's table stands in the README: between two markers.

In: the markers' name, Markdown. Out: the README with that part renewed, all else untouched.
"""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parent.parent.parent / "README.md"


def into_readme(name: str, written: str) -> None:
    """Renew what stands between `<!-- name: start -->` and `<!-- name: end -->`."""
    text = README.read_text(encoding="utf-8")
    start, end = f"<!-- {name}: start -->\n", f"<!-- {name}: end -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    assert rest, f"the README has the markers of {name}"
    README.write_text(f"{before}{start}{written}\n{end}{after}", encoding="utf-8")
