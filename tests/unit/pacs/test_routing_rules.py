import pytest

from pacs.config import RoutingRuleSettings, RoutingSettings
from pacs.errors import InvalidSetting
from pacs.model import Door, Origin
from pacs.routing.rules import build_rules
from pacs.tags import tag_of

FROM_CT = Origin(Door.DIMSE, calling_ae_title="CT1", called_ae_title="PACS")


def rules(*entries):
    settings = RoutingSettings(rules=tuple(RoutingRuleSettings(when=when, to=to) for when, to in entries))
    return build_rules(settings, ["WORKSTATION", "CLOUD", "CT1"])


def header(modality):
    return {tag_of("Modality"): {"vr": "CS", "Value": [modality]}}


def test_an_instance_goes_to_every_destination_of_every_rule_that_holds_once():
    found = rules(
        ({"Modality": "CT"}, ("WORKSTATION",)), ({}, ("CLOUD", "WORKSTATION")), ({"Modality": "MR"}, ("CT1",))
    )
    assert found.find_destinations(header("CT"), FROM_CT) == ("WORKSTATION", "CLOUD")


def test_nothing_goes_back_to_where_it_came_from():
    assert rules(({}, ("CT1", "CLOUD"))).find_destinations(header("CT"), FROM_CT) == ("CLOUD",)


def test_the_way_in_can_decide():
    found = rules(({"CallingAETitle": "CT*", "Door": "dimse"}, ("CLOUD",)))
    assert found.find_destinations({}, FROM_CT) == ("CLOUD",)
    assert found.find_destinations({}, Origin(Door.STOW)) == ()


def test_without_rules_nothing_goes_anywhere():
    assert rules().find_destinations(header("CT"), FROM_CT) == ()


def test_an_unknown_destination_is_refused_by_name():
    with pytest.raises(InvalidSetting, match=r"routing\.rules\.1\.to .* NOWHERE"):
        rules(({}, ("CLOUD",)), ({}, ("CLOUD", "NOWHERE")))


def test_an_unknown_condition_is_refused_by_name():
    with pytest.raises(InvalidSetting, match=r"routing\.rules\.0\.when .* Modalty"):
        rules(({"Modalty": "CT"}, ("CLOUD",)))
