"""README files in the folders of the code become pages of the site, and links between all files work there.

`OUTSIDE_DOCS` names those files; none is copied into docs/. A page links to any file of the repository by its
relative path. In the site a link to a page opens that page, and a link to another file opens a page that shows it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent.parent
# Their names in the site; `training/README.md` would otherwise get the address of docs/training.md.
OUTSIDE_DOCS = {
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
ICON = "service/api/page/icon.svg"
SHOWN = "source/"
TARGET = re.compile(r'(?<=\]\()[^)\s]+|(?<=\]: )\S+|(?<=src=")[^"]+|(?<=href=")[^"]+')
LANGUAGES = {".py": "python", ".pyi": "python", ".cpp": "cpp", ".h": "cpp", ".yaml": "yaml", ".json": "json"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside docs/, the icon, and a page for each other file that a page links to."""
    files.append(File.generated(config, "icon.svg", abs_src_path=str(ROOT / ICON)))
    for path, place in OUTSIDE_DOCS.items():
        if (ROOT / path).is_file():
            hidden = InclusionLevel.NOT_IN_NAV if path == "README.md" else InclusionLevel.UNDEFINED
            files.append(File.generated(config, place, abs_src_path=str(ROOT / path), inclusion=hidden))
    pages = [page for page in files.documentation_pages() if page.inclusion.is_included()]
    targets = {target_of(page.src_uri, target) for page in pages for target in TARGET.findall(page.content_string)}
    for path in sorted(path for path in targets if path and place_of(path).startswith(SHOWN)):
        shown = File.generated(config, place_of(path), content=showing(path), inclusion=InclusionLevel.NOT_IN_NAV)
        files.append(shown)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links to the places of their targets in the site; mkdocs reports links without a target."""
    here = page.file.src_uri

    def placed(match: re.Match[str]) -> str:
        path = target_of(here, match[0])
        if path is None:
            return match[0]
        _, mark, fragment = match[0].partition("#")
        return posixpath.relpath(place_of(path), posixpath.dirname(here) or ".") + mark + fragment

    return markdown if here.startswith(SHOWN) else TARGET.sub(placed, markdown)


def target_of(src_uri: str, target: str) -> str | None:
    """The file of the repository that a link of a page names, or the README of a folder; None for any other link."""
    written = target.partition("#")[0]
    if not written or ":" in written or written.startswith("/"):
        return None
    source = next((path for path, place in OUTSIDE_DOCS.items() if place == src_uri), f"docs/{src_uri}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), written))
    if (ROOT / path).is_dir():
        path = posixpath.join(path, "README.md")
    return path if (ROOT / path).is_file() and not path.startswith("..") else None


def place_of(path: str) -> str:
    """The place of a file of the repository in the site."""
    if path.startswith("docs/") and not path.startswith("docs/_hooks/"):
        return path.removeprefix("docs/")
    return OUTSIDE_DOCS.get(path, f"{SHOWN}{path}.md")


def showing(path: str) -> str:
    """A page that shows a file; the search does not index it."""
    language = LANGUAGES.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"---\nsearch: {{exclude: true}}\nhide: [toc]\n---\n# {path}\n\n``````{language}\n{text}\n``````\n"
