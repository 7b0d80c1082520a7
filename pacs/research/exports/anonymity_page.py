"""The report of how anonymous a release is, for people: Markdown that reads as plain text."""

from collections.abc import Iterator

from pacs.research.exports.anonymity import AnonymityReport

_NOTE = (
    "A patient counts once, however many series he has. What is unknown counts as a value. Dates do not count as known:"
    " they are moved by days that nobody has who has not the project's key. l is the number of different study"
    " descriptions that the patients of a class have at least. No such figure says anything of the pixels: whoever has"
    " the same image elsewhere can always find it again."
)


def write_page(report: AnonymityReport, title: str) -> str:
    """Return the report under a title."""
    return "\n".join(_lines(report, title)) + "\n"


def _lines(report: AnonymityReport, title: str) -> Iterator[str]:
    yield f"# {title}: how anonymous it is"
    yield ""
    measured_by = f" (measured by {report.measured_by})" if report.measured_by else ""
    yield f"{report.patients} patients; the project asks for k = {report.wanted_k}{measured_by}."
    yield ""
    for warning in report.warnings:
        yield f"- **Warning.** {warning}"
    if not report.warnings:
        yield f"Whatever is known of a patient below, at least {report.wanted_k} patients share it."
    yield ""
    if report.levels:
        sizes = list(report.levels[0].distribution)
        yield "| what is known | k | l | classes | patients in classes below k | " + " | ".join(sizes) + " |"
        yield "| --- |" + " ---: |" * (4 + len(sizes))
        for level in report.levels:
            numbers = (level.k, level.l, level.classes, level.patients_below_k, *level.distribution.values())
            yield f"| {level.knowledge} | " + " | ".join(map(str, numbers)) + " |"
        yield ""
        yield "The last columns count the patients in classes of so many."
        yield ""
    if report.small_classes:
        names = list(report.small_classes[0])
        yield f"## Combinations that fewer than {report.wanted_k} patients share"
        yield ""
        yield "| " + " | ".join(names) + " |"
        yield "|" + " --- |" * len(names)
        for found in report.small_classes:
            yield "| " + " | ".join(_cell(found[name]) for name in names) + " |"
        left = report.small_classes_in_all - len(report.small_classes)
        if left:
            yield ""
            yield f"{left} more are not listed."
        yield ""
    yield _NOTE


def _cell(value: object) -> str:
    """Return a value that cannot end its cell: it comes from a header."""
    return " ".join(str(value).replace("|", "\\|").split())
