"""A report as one page of HTML, or as plain text (PS3.18 Table 8.7.4-1).

The page is whatever somebody sent us, shown in our name: every text of it is escaped, it has no script and no form and
loads nothing, and its policy forbids all of that once more. It reads from the left or the right as its text does.
"""

import base64
import hashlib
import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from pacs.imaging.report import NOT_SHOWN, Item, Reference, Report

Link = Callable[[Reference], str]
"""Returns the address at which a referenced instance can be looked at, or an empty string if there is none."""

HTML, PLAIN_TEXT = "text/html", "text/plain"

_ENGLISH = {
    "patient": "Patient", "born": "Born", "sex": "Sex", "study": "Study", "study_date": "Date of study",
    "accession": "Accession number", "referring": "Referring physician", "institution": "Institution",
    "written": "Written", "verified_by": "Verified by", "item": "see item", "frames": "frames",
    "COMPLETE": "Complete", "PARTIAL": "Partial: not all of the content", "VERIFIED": "Verified",
    "UNVERIFIED": "Not verified", "PRELIMINARY": "Preliminary", "FINAL": "Final",
    "M": "male", "F": "female", "O": "other",
    "cut": "This report is longer than what is shown here.",
}  # fmt: skip
_FRENCH = {
    "patient": "Patient", "born": "Date de naissance", "sex": "Sexe", "study": "Examen",
    "study_date": "Date de l\u2019examen", "accession": "Numéro d\u2019accès", "referring": "Médecin prescripteur",
    "institution": "Établissement", "written": "Rédigé le", "verified_by": "Vérifié par", "item": "voir l\u2019élément",
    "frames": "images", "COMPLETE": "Achevé", "PARTIAL": "Partiel : contenu incomplet", "VERIFIED": "Vérifié",
    "UNVERIFIED": "Non vérifié", "PRELIMINARY": "Préliminaire", "FINAL": "Définitif",
    "M": "masculin", "F": "féminin", "O": "autre",
    "cut": "Ce compte rendu est plus long que ce qui est montré ici.",
}  # fmt: skip
_ARABIC = {
    "patient": "المريض", "born": "تاريخ الميلاد", "sex": "الجنس", "study": "الفحص", "study_date": "تاريخ الفحص",
    "accession": "رقم الطلب", "referring": "الطبيب المُحيل", "institution": "المؤسسة", "written": "حُرّر في",
    "verified_by": "صادق عليه", "item": "انظر العنصر", "frames": "الصور", "COMPLETE": "كامل",
    "PARTIAL": "جزئي: المحتوى غير كامل", "VERIFIED": "مُصادق عليه", "UNVERIFIED": "غير مُصادق عليه",
    "PRELIMINARY": "أوّلي", "FINAL": "نهائي", "M": "ذكر", "F": "أنثى", "O": "آخر",
    "cut": "هذا التقرير أطول مما هو معروض هنا.",
}  # fmt: skip
_WORDS = {"en": _ENGLISH, "fr": _FRENCH, "ar": _ARABIC}
_RIGHT_TO_LEFT = ("ar", "he", "fa", "ur")

_STYLE = """
:root{color-scheme:light dark}
body{font:1rem/1.5 system-ui,"Segoe UI","Noto Sans","Noto Sans Arabic",Tahoma,sans-serif;max-width:48rem;
margin:0 auto;padding:1.5rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .75rem}
h2{font-size:1.25rem;margin:1.75rem 0 .5rem;border-block-end:1px solid #8886;padding-block-end:.2rem}
h3,h4,h5,h6{font-size:1.05rem;margin:1.1rem 0 .3rem}
dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:0 0 1rem;padding:.75rem 1rem;
background:#8881;border-radius:.4rem}
dt,.name{color:#666;color:color-mix(in srgb,currentColor 65%,transparent)}
dd{margin:0}
p,li{margin:.3rem 0}
ul{margin:.1rem 0;padding-inline-start:1.25rem}
.value{white-space:pre-wrap;overflow-wrap:anywhere}
.long{display:block;unicode-bidi:plaintext}
.detail{font-size:.8rem;opacity:.65}
.flag{display:inline-block;border:1px solid currentColor;border-radius:1rem;padding:0 .7rem;margin-inline-end:.4rem;
font-size:.85rem}
.caution{color:#a33;font-weight:600}
section section{padding-inline-start:1rem;border-inline-start:2px solid #8883}
:target{background:#fd06}
@media(prefers-color-scheme:dark){.caution{color:#f99}dt,.name{color:#aaa}}
@media print{body{max-width:none;padding:0}}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_IN_PAGE = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"

CONTENT_SECURITY_POLICY = f"{_IN_PAGE}; frame-ancestors 'self'"
"""For the header: nothing is loaded or run, and no other site shows the page as a part of itself."""

_CAUTIONS = ("PARTIAL", "UNVERIFIED", "PRELIMINARY")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LONG = 60


def write_html(report: Report, link: Link) -> str:
    """Return the page; ``link`` gives the addresses of what the report refers to."""
    return "\n".join(_iter_html(report, link)) + "\n"


def write_text(report: Report) -> str:
    """Return the report as lines of text, indented as it nests."""
    words = _words(report)
    lines = [_clean(report.title), ""]
    lines += [f"{words[word]}: {_clean(', '.join(_shown(word, parts, words)))}" for word, parts in report.facts]
    lines += [", ".join(_clean(words.get(flag, flag)) for flag in report.status)] if report.status else []
    lines += [f"{words['verified_by']}: {_clean(', '.join(observer))}" for observer in report.observers]
    lines.append("")
    for item in report.items:
        lines += _iter_lines(item, words, "")
    if report.is_cut:
        lines += ["", words["cut"]]
    return "\n".join(lines) + "\n"


def _iter_html(report: Report, link: Link) -> Iterator[str]:
    words = _words(report)
    language = report.language or "en"
    yield f'<!DOCTYPE html>\n<html lang="{_escape(language)}" dir="{_direction(report)}">'
    yield '<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_IN_PAGE)}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{_escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield f'<header>\n<h1><bdi>{_escape(report.title)}</bdi></h1>\n<dl class="facts">'
    for word, parts in report.facts:
        yield f"<dt>{_escape(words[word])}</dt><dd>{_apart(_shown(word, parts, words))}</dd>"
    for observer in report.observers:
        yield f"<dt>{_escape(words['verified_by'])}</dt><dd>{_apart(observer)}</dd>"
    yield "</dl>"
    if report.status:
        yield f"<p>{''.join(_flag(flag, words) for flag in report.status)}</p>"
    yield "</header>\n<main>"
    for item in report.items:
        yield from _iter_item(item, words, link, 2)
    if report.is_cut:
        yield f'<p class="caution">{_escape(words["cut"])}</p>'
    yield "</main>\n</body>\n</html>"


def _direction(report: Report) -> str:
    """Return which way the page runs: as its language does, else as the first letter of its title that has a say."""
    if report.language:
        return "rtl" if report.language.split("-")[0].lower() in _RIGHT_TO_LEFT else "ltr"
    kinds = (unicodedata.bidirectional(letter) for letter in report.title)
    return "rtl" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L" else "ltr"


def _shown(word: str, parts: tuple[str, ...], words: dict[str, str]) -> tuple[str, ...]:
    return tuple(words.get(part, part) for part in parts) if word == "sex" else parts


def _apart(parts: Iterable[str]) -> str:
    """Return parts beside each other, each of which runs its own way."""
    return ", ".join(f"<bdi>{_escape(part)}</bdi>" for part in parts)


def _flag(flag: str, words: dict[str, str]) -> str:
    kind = "flag caution" if flag in _CAUTIONS else "flag"
    return f'<span class="{kind}">{_escape(words.get(flag, flag))}</span>'


def _iter_item(item: Item, words: dict[str, str], link: Link, level: int) -> Iterator[str]:
    anchor = f'id="item-{item.position}"'
    if not item.is_container:
        yield f"<div {anchor}>\n<p>{_statement(item, words, link)}</p>"
        if item.children:
            yield "<ul>"
            for child in item.children:
                yield "<li>"
                yield from _iter_item(child, words, link, level + 1)
                yield "</li>"
            yield "</ul>"
        yield "</div>"
        return
    yield f"<section {anchor}>"
    if item.heading:
        size = min(level, 6)
        yield f"<h{size}><bdi>{_escape(item.heading)}</bdi></h{size}>"
    for child in item.children:
        yield from _iter_item(child, words, link, level + 1)
    yield "</section>"


def _statement(item: Item, words: dict[str, str], link: Link) -> str:
    parts = []
    if item.heading:
        parts.append(f'<span class="name"><bdi>{_escape(item.heading)}</bdi>:</span>')
    if item.value:
        is_long = len(item.value) > _LONG or "\n" in item.value
        kind = "value long" if is_long else "value"
        parts.append(f'<bdi class="{kind}">{_escape(item.value)}</bdi>')
    if item.detail:
        parts.append(f'<bdi class="detail">({_escape(item.detail)})</bdi>')
    if item.target:
        parts.append(f'<a href="#item-{_escape(item.target)}">{_escape(words["item"])} {_escape(item.target)}</a>')
    parts += [_reference(reference, words, link(reference)) for reference in item.references]
    return " ".join(parts) or NOT_SHOWN


def _reference(reference: Reference, words: dict[str, str], address: str) -> str:
    text = f"<bdi>{_escape(_named(reference, words))}</bdi>"
    uid = f'<bdi class="detail">({_escape(reference.sop_instance_uid)})</bdi>'
    return f'<a href="{html.escape(address)}">{text}</a> {uid}' if address else f"{text} {uid}"


def _named(reference: Reference, words: dict[str, str]) -> str:
    numbers = ", ".join(str(number) for number in reference.frame_numbers[:16])
    return f"{reference.name}, {words['frames']} {numbers}" if numbers else reference.name


def _iter_lines(item: Item, words: dict[str, str], indent: str) -> Iterator[str]:
    parts = [item.value, f"({item.detail})" if item.detail else "", f"{words['item']} {item.target}"]
    said = [part for part in parts[: 3 if item.target else 2] if part]
    said += [f"{_named(reference, words)} ({reference.sop_instance_uid})" for reference in item.references]
    value = _clean(" ".join(said)).replace("\n", "\n" + indent + "  ")
    heading = _clean(item.heading)
    yield indent + ": ".join(part for part in (heading, value) if part)
    for child in item.children:
        yield from _iter_lines(child, words, indent + "  ")


def _words(report: Report) -> dict[str, str]:
    return _WORDS.get(report.language.split("-")[0].lower(), _ENGLISH)


def _escape(text: str) -> str:
    return html.escape(_clean(text))


def _clean(text: str) -> str:
    """Return text without the control characters that no page may hold, its lines ended alike."""
    return _CONTROLS.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
