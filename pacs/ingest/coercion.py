"""Coercion (PS3.4 B.4.1.3): rules that give attributes another value on the way in, or on the way out to a peer.

Stored bytes stay as received. What a rule changed on the way in is kept beside the instance as steps, and leaves with
Original Attributes Sequence; what is changed on the way out is laid over what leaves, and kept nowhere.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pacs.config import CoercionRuleSettings
from pacs.elements import parse_element, parse_empty
from pacs.errors import InvalidQuery, InvalidSetting, InvalidValue
from pacs.model import Attributes, Door, Origin
from pacs.overlay import COERCE, Step
from pacs.predicates import Predicate, parse_predicate


@dataclass(frozen=True, slots=True)
class CoercionRule:
    """One rule. ``set``, ``fill`` and ``removed`` are elements by tag; an empty ``to`` is every destination."""

    is_inbound: bool
    when: Predicate
    to: frozenset[str]
    set: Attributes
    fill: Attributes
    removed: Attributes

    def changes_of(self, attributes: Attributes) -> Attributes:
        """Return the elements that differ afterwards; nothing if the rule makes no difference."""
        changes = {tag: new for tag, new in self.set.items() if not _is_same(new, attributes.get(tag, {}))}
        changes |= {tag: new for tag, new in self.fill.items() if not _has_value(attributes.get(tag, {}))}
        return changes | {tag: new for tag, new in self.removed.items() if _has_value(attributes.get(tag, {}))}


class OutboundCoercion:
    """The rules for what leaves, by where it goes."""

    def __init__(self, rules: Iterable[CoercionRule]) -> None:
        self._rules = tuple(rule for rule in rules if not rule.is_inbound)

    def towards(self, destination: str) -> Callable[[Attributes], tuple[Step, ...]] | None:
        """Return what to ask for an instance's steps on the way to a destination; None if no rule concerns it."""
        rules = tuple(rule for rule in self._rules if not rule.to or destination in rule.to)
        if not rules:
            return None
        return lambda attributes: coerce_out(rules, destination, attributes, Origin(Door.DIMSE))


def build_rules(settings: Iterable[CoercionRuleSettings]) -> tuple[CoercionRule, ...]:
    """Return the rules in their order; raise InvalidSetting with one sentence for the first that makes no sense."""
    return tuple(_build_rule(index, rule) for index, rule in enumerate(settings))


def coerce_in(rules: Iterable[CoercionRule], attributes: Attributes, origin: Origin) -> tuple[Step, ...]:
    """Return what the rules change of an instance that comes in, one step a rule; each sees what earlier ones did."""
    return _coerce((rule for rule in rules if rule.is_inbound), attributes, origin)


def coerce_out(
    rules: Iterable[CoercionRule], destination: str, attributes: Attributes, origin: Origin
) -> tuple[Step, ...]:
    """Return what the rules change of an instance that leaves for a destination, an AE title or a name."""
    outbound = (rule for rule in rules if not rule.is_inbound and (not rule.to or destination in rule.to))
    return _coerce(outbound, attributes, origin)


def _coerce(rules: Iterable[CoercionRule], attributes: Attributes, origin: Origin) -> tuple[Step, ...]:
    steps = []
    for rule in rules:
        changes = rule.changes_of(attributes) if rule.when.holds(attributes, origin) else {}
        if changes:
            steps.append(Step(changes, datetime.now(UTC), COERCE, source=origin.calling_ae_title))
            attributes = attributes | changes
    return tuple(steps)


def _build_rule(index: int, rule: CoercionRuleSettings) -> CoercionRule:
    try:
        return CoercionRule(
            is_inbound=rule.direction == "in",
            when=parse_predicate(rule.when),
            to=frozenset(rule.to),
            set=_elements(parse_element(keyword, text) for keyword, text in rule.set.items()),
            fill=_elements(parse_element(keyword, text) for keyword, text in rule.fill.items()),
            removed=_elements(map(parse_empty, rule.remove)),
        )
    except (InvalidQuery, InvalidValue) as error:
        raise InvalidSetting(f"The setting coercion.{index} is wrong: {error}") from None


def _elements(parsed: Iterable[Attributes]) -> Attributes:
    return {tag: element for one in parsed for tag, element in one.items()}


def _has_value(element: Attributes) -> bool:
    return any(element.get(key) for key in ("Value", "InlineBinary", "BulkDataURI"))


def _is_same(new: Attributes, old: Attributes) -> bool:
    return new.get("Value") == old.get("Value") if _has_value(new) else not _has_value(old)
