"""What a header may cost whoever reads it, whatever it says of itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one data set may cost. ``header_bytes`` counts what is read, not what is skipped as bulk.

    Two bytes may be one value, in memory twenty times as large: past ``inline_values`` of them longer elements are bulk
    data, past ``values`` the data set is refused.
    """

    depth: int = 64
    elements: int = 500_000
    inline_values: int = 1_000_000
    values: int = 3_000_000
    header_bytes: int = 256 * 1024 * 1024
    inflated_bytes: int = 2 * 1024 * 1024 * 1024
    inflation_ratio: int = 500
