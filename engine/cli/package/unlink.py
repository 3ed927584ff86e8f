"""Makes links in packed Markdown that lead to nothing in the package plain text.

    python3 unlink.py FOLDER [FROM=TO...]

`FROM=TO` is a folder that has another name in the package than in the source.
"""

import re
import sys
from pathlib import Path

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def mended(page: Path, root: Path, renamed: dict[str, str]) -> str:
    def link(match: re.Match) -> str:
        mark, text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, anchor, heading = target.partition("#")
        for name, new in renamed.items():
            if (page.parent / path).resolve().is_relative_to(root / name):
                path = path.replace(f"{name}/", f"{new}/", 1)
        to = (page.parent / path).resolve()
        return f"{mark}[{text}]({path}{anchor}{heading})" if to.is_relative_to(root) and to.exists() else text

    lines, is_code = [], False
    for line in page.read_text().splitlines(keepends=True):
        is_code ^= line.lstrip().startswith("```")
        lines.append(line if is_code else LINK.sub(link, line))
    return "".join(lines)


if __name__ == "__main__":
    root = Path(sys.argv[1]).resolve()
    renamed = dict(pair.split("=") for pair in sys.argv[2:])
    for page in sorted(root.rglob("*.md")):
        page.write_text(mended(page, root, renamed))
