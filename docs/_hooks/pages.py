"""Pages that lie beside the code become pages of the site, and links between all files work there as on a code forge.

`BESIDE_THE_CODE` names those pages; none is copied into docs/. A page links to any file of the repository by its
relative path. In the site a link to a page leads to that page, and a link to another file to a page that shows it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent.parent
# What the site calls them; `training/README.md` as it is would stand at the address of docs/training.md.
BESIDE_THE_CODE = {
    "README.md": "readme.md",
    "README.zh.md": "zh.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "docker/README.md": "docker.md",
    "findings/README.md": "findings.md",
    "k8s/README.md": "kubernetes.md",
    "native/README.md": "native.md",
    "training/README.md": "training-in-depth.md",
}
ICON = "service/page/icon.svg"
SHOWN = "source/"
TARGET = re.compile(r'(?<=\]\()[^)\s]+|(?<=\]: )\S+|(?<=src=")[^"]+|(?<=href=")[^"]+')
LANGUAGES = {".py": "python", ".pyi": "python", ".cpp": "cpp", ".h": "cpp", ".yaml": "yaml", ".json": "json"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages beside the code, the icon, and a page for each other file that a page links to."""
    files.append(File.generated(config, "icon.svg", abs_src_path=str(ROOT / ICON)))
    for path, place in BESIDE_THE_CODE.items():
        if (ROOT / path).is_file():
            hidden = InclusionLevel.NOT_IN_NAV if path == "README.md" else InclusionLevel.UNDEFINED
            files.append(File.generated(config, place, abs_src_path=str(ROOT / path), inclusion=hidden))
    pages = [page for page in files.documentation_pages() if page.inclusion.is_included()]
    targets = {meant(page.src_uri, target) for page in pages for target in TARGET.findall(page.content_string)}
    for path in sorted(path for path in targets if path and place_of(path).startswith(SHOWN)):
        shown = File.generated(config, place_of(path), content=showing(path), inclusion=InclusionLevel.NOT_IN_NAV)
        files.append(shown)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes links relative to where the site has what they mean; mkdocs itself judges those that mean nothing."""
    here = page.file.src_uri

    def placed(match: re.Match[str]) -> str:
        path = meant(here, match[0])
        if path is None:
            return match[0]
        _, mark, fragment = match[0].partition("#")
        return posixpath.relpath(place_of(path), posixpath.dirname(here) or ".") + mark + fragment

    return markdown if here.startswith(SHOWN) else TARGET.sub(placed, markdown)


def meant(src_uri: str, target: str) -> str | None:
    """The file of the repository that a link of a page means, or the README of a folder; None for any other link."""
    written = target.partition("#")[0]
    if not written or ":" in written or written.startswith("/"):
        return None
    lies = next((path for path, place in BESIDE_THE_CODE.items() if place == src_uri), f"docs/{src_uri}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(lies), written))
    if (ROOT / path).is_dir():
        path = posixpath.join(path, "README.md")
    return path if (ROOT / path).is_file() and not path.startswith("..") else None


def place_of(path: str) -> str:
    """Where the site has a file of the repository."""
    if path.startswith("docs/") and not path.startswith("docs/_hooks/"):
        return path.removeprefix("docs/")
    return BESIDE_THE_CODE.get(path, f"{SHOWN}{path}.md")


def showing(path: str) -> str:
    """A page that shows a file; the search leaves it out."""
    language = LANGUAGES.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"---\nsearch: {{exclude: true}}\nhide: [toc]\n---\n# {path}\n\n``````{language}\n{text}\n``````\n"
