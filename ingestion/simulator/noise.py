"""Deterministic noise out of integers only, so that every machine computes the same market."""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

BILLION = 1_000_000_000
_MASK = (1 << 64) - 1
_CELL_MINUTES = 15
_BLOCK_MINUTES = 60
# Periods in minutes with amplitudes in parts per billion: months move tenths, minutes basis
# points. Each period is a multiple of the one below, which makes the sum linear inside a cell.
_OCTAVES = (
    (43_200, 80_000_000),
    (10_080, 40_000_000),
    (1_440, 18_000_000),
    (240, 8_000_000),
    (60, 4_000_000),
    (15, 1_500_000),
)
_FINE_PPB = 200_000


def key_of(*parts: object) -> int:
    """Return a 64-bit key for a name such as (seed, exchange, symbol)."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def mix(key: int, number: int) -> int:
    """Return 64 well mixed bits of (key, number): SplitMix64's output function."""
    x = (key + number * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def mix_each(key: int, numbers: Sequence[int]) -> list[int]:
    """Return `mix` of each number from 0 on, a third of the time for sixty of them or more.

    They lie side by side in one large integer, 128 bits to each, so that none overflows into its
    neighbour when it is multiplied: what Python does in 15 steps for one, it does for all.
    """
    count = len(numbers)
    lanes = array("Q", bytes(16 * count))
    lanes[::2] = array("Q", numbers)
    ones = _in_each_lane(count)
    mask = ones * _MASK
    x = (int.from_bytes(lanes.tobytes(), "little") * 0x9E3779B97F4A7C15 + ones * key) & mask
    x = (((x ^ (x >> 30)) & mask) * 0xBF58476D1CE4E5B9) & mask
    x = (((x ^ (x >> 27)) & mask) * 0x94D049BB133111EB) & mask
    x ^= x >> 31
    # The upper halves hold what was shifted in from a neighbour.
    return memoryview(x.to_bytes(16 * count, "little")).cast("Q")[::2].tolist()


@lru_cache(maxsize=16)
def _in_each_lane(count: int) -> int:
    return int.from_bytes((b"\1" + bytes(15)) * count, "little")


class BlockCache:
    """Recent hours of asset paths, shared and bounded: thousands of assets stay small."""

    def __init__(self, capacity: int = 6_000) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[tuple[int, int], array[int]] = OrderedDict()

    def get(self, key: tuple[int, int]) -> "array[int] | None":
        return self._blocks.get(key)

    def put(self, key: tuple[int, int], block: "array[int]") -> None:
        self._blocks[key] = block
        if len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)


class AssetPath:
    """An asset's deviation from its reference value, in parts per billion, minute by minute.

    Every exchange reads the same path, which is what keeps them consistent with one another.
    """

    def __init__(self, *, seed: int, asset: str, volatility_percent: int, cache: BlockCache):
        self._key = key_of(seed, "asset", asset)
        self._volatility = volatility_percent
        self._cache = cache
        self._hour = -1
        self._block: array[int] = array("q")

    def at(self, minute: int) -> int:
        """Return the deviation at the start of a minute (minutes since 1970)."""
        hour, index = divmod(minute, _BLOCK_MINUTES)
        if hour != self._hour:
            self._block = self._load(hour)
            self._hour = hour
        return self._block[index]

    def span(self, start: int, end: int) -> list[int]:
        """Return `at` of each minute in [start, end)."""
        found: list[int] = []
        minute = start
        while minute < end:
            hour, index = divmod(minute, _BLOCK_MINUTES)
            found += self._load(hour)[index : index + end - minute]
            minute = start + len(found)
        return found

    def hour_bounds(self, hour: int) -> tuple[int, int]:
        """Return what the deviation stays within from the start of an hour to its end."""
        first = hour * _BLOCK_MINUTES
        corners = [
            self._coarse(first + step) for step in range(0, _BLOCK_MINUTES + 1, _CELL_MINUTES)
        ]
        low, high = min(corners) - _FINE_PPB, max(corners) + _FINE_PPB
        return low * self._volatility // 100 - 1, high * self._volatility // 100 + 1

    def _load(self, hour: int) -> "array[int]":
        key = (self._key, hour)
        block = self._cache.get(key)
        if block is None:
            block = self._build(hour)
            self._cache.put(key, block)
        return block

    def _build(self, hour: int) -> "array[int]":
        first = hour * _BLOCK_MINUTES
        block = array("q")
        volatility = self._volatility
        noise = mix_each(self._key, range(first, first + _BLOCK_MINUTES))
        left = self._coarse(first)
        for cell in range(first, first + _BLOCK_MINUTES, _CELL_MINUTES):
            right = self._coarse(cell + _CELL_MINUTES)
            for step in range(_CELL_MINUTES):
                fine = noise[cell - first + step] % (2 * _FINE_PPB) - _FINE_PPB
                slope = (right - left) * step // _CELL_MINUTES
                block.append((left + slope + fine) * volatility // 100)
            left = right
        return block

    def _coarse(self, minute: int) -> int:
        total = 0
        for period, amplitude in _OCTAVES:
            cell, step = divmod(minute, period)
            left = mix(self._key ^ period, cell) % (2 * amplitude) - amplitude
            if step:
                right = mix(self._key ^ period, cell + 1) % (2 * amplitude) - amplitude
                left += (right - left) * step // period
            total += left
        return total
