"""The HTML repr of a module: a tree that folds open, with parameter counts."""

from __future__ import annotations

from html import escape

_STYLE = "font-family:ui-monospace,monospace;font-size:0.85em;line-height:1.5"
_INDENT = "margin-left:1.2em"
_COUNT = "opacity:0.65"


def module_html(module) -> str:
    """HTML of `module` and its children, the first level open. Every name and text in it is escaped."""
    return f'<div style="{_STYLE}">{_tree(module, "", is_open=True)}</div>'


def _tree(module, name: str, is_open: bool) -> str:
    children = [(label, child) for label, child in module._modules.items() if child is not None]
    line = _line(module, name)
    if not children:
        return f'<div style="{_INDENT}">{line}</div>'
    inner = "".join(_tree(child, label, is_open=False) for label, child in children)
    opened = " open" if is_open else ""
    return f'<details style="{_INDENT}"{opened}><summary>{line}</summary>{inner}</details>'


def _line(module, name: str) -> str:
    label = f"({escape(name)}) " if name else ""
    settings = escape(module.extra_repr().replace("\n", ", "))
    return f"{label}<b>{escape(module._get_name())}</b>({settings}) {_count(module)}".rstrip()


def _count(module) -> str:
    parameters = list(module.parameters())
    total = sum(p.numel() for p in parameters)
    if not total:
        return ""
    frozen = total - sum(p.numel() for p in parameters if p.requires_grad)
    note = f", {frozen:,} frozen" if frozen else ""
    return f'<span style="{_COUNT}">{total:,} parameters{note}</span>'
