"""The HTML repr of modules."""

from __future__ import annotations

from html.parser import HTMLParser

from tests.nn.models import net
from tinynet import nn


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def text_of(html):
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return parser.text


def test_the_tree_names_every_module_and_counts_parameters():
    model = net(nn)
    model.block.requires_grad_(False)
    html = model._repr_html_()
    text = text_of(html)
    total = sum(p.numel() for p in model.parameters())
    frozen = sum(p.numel() for p in model.block.parameters())
    assert f"Sequential() {total:,} parameters, {frozen} frozen" in text
    assert "(conv2) Conv2d(2, 2, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), bias=False)" in text
    assert "(relu) ReLU(inplace=True)" in text
    assert html.count("<details") == 1 + sum(1 for m in model.modules() if list(m.children())) - 1
    assert html.count(" open") == 1


def test_names_and_settings_are_escaped():
    class Odd(nn.Module):
        def extra_repr(self):
            return "<script>alert('x')</script>\nline"

    model = nn.Module()
    model.add_module("<b>&", Odd())
    html = model._repr_html_()
    assert "<script" not in html and "<b>&" not in html
    assert "(<b>&) Odd(<script>alert('x')</script>, line)" in text_of(html)
