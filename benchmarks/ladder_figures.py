"""What the ladder must reach, from the rows of the table.

Of several rungs the best is taken on the very samples that it is scored on, as one would look for
it in the table; that flatters it a little, and `made of` names it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.ladder_rows import AUTO, AVERAGE, Ladder, Row, Rung
from benchmarks.measuring import Figure

FASHION = ("fashion", "bench-fashion")
UNLABELLED = ("wake", "classes", "anomalies")
LEAST = 0.01  # what is seen of a figure with two digits
MOST_WORSE_DB = 0.5
# Points lost with the same calibration samples by the best int8 that TFLiteConverter, litert-quantizer,
# NNCF, MCT, AIMET or onnxruntime made: bench-fashion's on these very images; keywords' on 900 other
# clips. Nobody's is known of fashion, which is another seed of that network.
PEERS: Mapping[tuple[str, str], tuple[str, float]] = {
    ("bench-fashion", "per_channel"): ("an epoch of TF-MOT's QAT", -0.07),
    ("bench-fashion", "per_tensor"): ("AIMET's equalization", -0.14),
    ("keywords", "per_channel"): ("TFLiteConverter", -0.23),
    ("keywords", "per_tensor"): ("TFLiteConverter", 0.11),
}


def figures(ladders: Sequence[Ladder]) -> Iterator[Figure]:
    """All figures that the `ladders` have the rows for."""
    for ladder in ladders:
        yield from equalized(ladder)
        yield from above_plain(ladder)
        yield from clips_lost(ladder)
        yield from narrow(ladder)
        yield from peers(ladder)
    for ladder in ladders:
        yield from never_worse(ladder)
        yield from automatic(ladder)
    yield from sound(ladders)


def equalized(ladder: Ladder) -> Iterator[Figure]:
    """Per-tensor int8 after equalization, against float."""
    row = ladder.row(Rung("equalized-int8"))
    if row and ladder.plain and ladder.model in FASHION and ladder.granularity == "per_tensor":
        yield Figure(f"{ladder}: equalized-int8 loses, points", row.lost,
                     f"plain loses {ladder.plain.lost:.2f}; {_count(row):,} images", at_most=0.3)


def above_plain(ladder: Ladder) -> Iterator[Figure]:
    """How much closer to float the best rung comes than plain static-int8 does, without labels."""
    if ladder.model in UNLABELLED and ladder.plain and ladder.whole:
        yield _closer(ladder, ladder.plain)
        best, plain = _closest(ladder), ladder.plain
        shares = [100 * (row.value("agreement") or 0) for row in (best, plain)]
        yield Figure(f"{ladder}: agreement above plain's, points", shares[0] - shares[1],
                     f"{best.rung} {shares[0]:.2f} %, plain {shares[1]:.2f} %",
                     at_least=0 if shares[1] == 100 else LEAST)


def clips_lost(ladder: Ladder) -> Iterator[Figure]:
    """Keyword spotting against float, in clips."""
    if ladder.model == "keywords" and ladder.plain and ladder.whole:
        yield _closer(ladder, ladder.plain)
        best = _closest(ladder)
        yield Figure(f"{ladder}: clips lost", round(best.lost / 100 * _count(best)),
                     f"{best.rung}, of {_count(best)} clips", at_most=2)


def narrow(ladder: Ladder) -> Iterator[Figure]:
    """What learned rounding loses with weights of 4 bits, against half of what the nearest loses."""
    nearest, learned = (ladder.row(Rung(name)) for name in ("static-int4", "adaround-int4"))
    if nearest and learned and ladder.model in FASHION:
        yield Figure(f"{ladder}: adaround-int4 loses, points", learned.lost,
                     f"half of static-int4's {nearest.lost:.2f}; {_count(learned):,} images",
                     at_most=round(nearest.lost / 2, 3))


def peers(ladder: Ladder) -> Iterator[Figure]:
    """What the best rung loses, against the best that was measured of other tools."""
    if (ladder.model, ladder.granularity) in PEERS and ladder.whole:
        name, theirs = PEERS[ladder.model, ladder.granularity]
        best = min(ladder.whole, key=lambda row: (row.lost, -row.db))
        error = standard_error(best)
        yield Figure(f"{ladder}: best rung loses, points", best.lost,
                     f"{best.rung}; {name} {theirs:+.2f}, and {error:.2f} of a paired standard error",
                     at_most=round(theirs + error, 3))


def never_worse(ladder: Ladder) -> Iterator[Figure]:
    """The rung that comes off worst beside plain static-int8."""
    plain = ladder.plain
    beside = [row for row in ladder.own if row.rung.recipe != "qat-int8"]
    if plain and beside:
        worst = min(beside, key=lambda row: row.db)
        yield Figure(f"{ladder}: sqnr_db above plain's, the least", worst.db - plain.db,
                     f"{worst.rung}, of {len(beside)}; not of training, which makes another model",
                     at_least=-MOST_WORSE_DB)
    if plain and ladder.own and ladder.labelled:
        worse = [str(row.rung) for row in ladder.own if ladder.worse(row)]
        yield Figure(f"{ladder}: rungs worse than plain by McNemar's test", len(worse),
                     ", ".join(worse) or f"of {len(ladder.own)}", at_most=0)


def automatic(ladder: Ladder) -> Iterator[Figure]:
    """Ranges chosen tensor by tensor, against the better of the two plain methods."""
    auto, average = ladder.row(AUTO), ladder.row(AVERAGE)
    if auto and average and ladder.plain:
        yield Figure(f"{ladder}: range auto above minmax and average, dB",
                     auto.db - max(average.db, ladder.plain.db),
                     f"{auto.db:.2f}; minmax {ladder.plain.db:.2f}, average {average.db:.2f}",
                     at_least=-MOST_WORSE_DB)


def sound(ladders: Sequence[Ladder]) -> Iterator[Figure]:
    """Rungs that ended in an error, not in a model or a refusal, and narrow ones that are not narrow."""
    climbed = [(ladder, row) for ladder in ladders for row in ladder.rows]
    failed = [f"{ladder} {row.rung}" for ladder, row in climbed if row.state == "error"]
    wide = [f"{ladder} {row.rung} = {twin.rung}" for ladder, row in climbed
            if row.rung.recipe.endswith("-int4") and (twin := ladder.twin(row))
            and twin.rung.recipe.endswith("-int8")]
    for name, found in (("rungs that failed", failed), ("int4 rungs that are int8 models", wide)):
        if climbed:
            yield Figure(name, len(found), ", ".join(found) or f"of {len(climbed)}", at_most=0)


def standard_error(row: Row) -> float:
    """Of a difference of paired shares, √(b + c - (b - c)² / n) / n, in points."""
    found = row.metrics["accuracy_drop"]
    lost, gained = found.discordant or (0, 0)
    n = _count(row)
    return 100 * math.sqrt(max(0.0, lost + gained - (lost - gained) ** 2 / n)) / n


def _closer(ladder: Ladder, plain: Row) -> Figure:
    best = _closest(ladder)
    return Figure(f"{ladder}: sqnr_db above plain's, dB", best.db - plain.db,
                  f"{best.rung} {best.db:.2f}, plain {plain.db:.2f}", at_least=LEAST)


def _closest(ladder: Ladder) -> Row:
    return max(ladder.whole, key=lambda row: row.db)


def _count(row: Row) -> int:
    return row.metrics["sqnr_db"].n or 0
