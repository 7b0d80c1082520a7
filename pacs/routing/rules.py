"""What is forwarded where: declarative rules, with the conditions of a query (docs/operations.md)."""

from collections.abc import Collection
from dataclasses import dataclass

from pacs.config import RoutingSettings
from pacs.errors import InvalidQuery, InvalidSetting
from pacs.model import Attributes, Origin
from pacs.predicates import Predicate, parse_predicate


@dataclass(frozen=True, slots=True)
class Rule:
    """What passes goes to every one of the destinations."""

    when: Predicate
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules that are in force. Made by ``build_rules``."""

    rules: tuple[Rule, ...] = ()

    def find_destinations(self, attributes: Attributes, origin: Origin) -> tuple[str, ...]:
        """Return where an instance goes, each destination once: never back to the AE it came from."""
        found = dict.fromkeys(name for rule in self.rules if rule.when.holds(attributes, origin) for name in rule.to)
        return tuple(name for name in found if name != origin.calling_ae_title)


def build_rules(settings: RoutingSettings, destinations: Collection[str]) -> Rules:
    """Return the rules of the settings; raise InvalidSetting for a condition or a destination that nobody knows."""
    rules = []
    for index, rule in enumerate(settings.rules):
        place = f"The setting routing.rules.{index}"
        try:
            when = parse_predicate(rule.when)
        except InvalidQuery as error:
            raise InvalidSetting(f"{place}.when is wrong: {error}") from None
        for name in rule.to:
            if name not in destinations:
                raise InvalidSetting(
                    f"{place}.to is wrong: {name} is neither in routing.destinations nor a peer with a port."
                )
        rules.append(Rule(when, rule.to))
    return Rules(tuple(rules))
