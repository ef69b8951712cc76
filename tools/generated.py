"""Write the generated files of the repository that need no ComfyUI, or check that they are up to date.

    python -m tools.generated [--check]

With --check nothing is written, and the exit code is 1 when a file differs from what its source says. The
help pages of the nodes need a running ComfyUI: `nodes/help_pages.py`, checked by tests/host.
"""

from __future__ import annotations

import sys

from wan_duet.pipelines.plan import docs

from . import device_table, media_table, requirements, templates

PAGES = {
    requirements.ROOT / "requirements.txt": requirements.render,
    docs.PAGE: docs.requests_page,
    device_table.PAGE: device_table.devices_page,
    media_table.PAGE: media_table.media_page,
    **templates.template_pages(),
}


def main(argv: list[str]) -> int:
    check, failed = argv == ["--check"], False
    for file, render in PAGES.items():
        text = render()
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        if check:
            failed = True
            print(f"{file.name} is out of date. Run: python -m tools.generated", file=sys.stderr)
        else:
            file.write_text(text, encoding="utf-8", newline="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
