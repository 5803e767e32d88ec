"""What to say of a weight file that holds another network than the one expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

Shapes = Mapping[str, tuple[int, ...]]

# Names of each kind that an error shows.
N_SHOWN = 3

# Names that are compared letter by letter, and their letters: time grows as its square.
N_COMPARED, MOST_COMPARED = 500, 100

# Blocks per layer, and whether they are bottlenecks, of the ResNets of He et al. 2016.
DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}

# Entries that only one family of networks has.
TELLING = {
    r"relative_position_bias_table$": "a Swin transformer",
    r"(^|\.)_?conv_stem\.weight$": "an EfficientNet or MobileNet",
    r"(^|\.)stages\.0\.blocks\.0\.conv_dw": "a ConvNeXt",
    r"(^|\.)denseblock1\.": "a DenseNet",
    r"(^|\.)features\.0\.weight$": "a VGG or AlexNet",
}


def describe_misfit(expected: Shapes, held: Shapes, unexpected: Sequence[str]) -> str:
    """Show what a file holds beside what was expected.

    Parameters
    ----------
    expected : mapping of str to tuple of int
        Shapes by name, as the file would name them.

    held : mapping of str to tuple of int
        Shapes by name, of everything in the file.

    unexpected : sequence of str
        The names in `held` that should not be there.

    Returns
    -------
    str
        One or more sentences.
    """
    missing = [name for name in expected if name not in held]
    reshaped = [name for name in expected if held.get(name, ()) != expected[name]]
    reshaped = [name for name in reshaped if name in held]
    counts = (
        f"of {len(expected)} tensors expected, {len(missing)} are missing and "
        f"{len(reshaped)} have another shape; of {len(held)} in the file, "
        f"{len(unexpected)} are unexpected."
    )
    sentences = [
        counts,
        *(
            f"Expected {_show(name, expected)}; the file has {_show(name, held)}."
            for name in reshaped[:N_SHOWN]
        ),
        _list_shown("Missing", (_show(name, expected) for name in missing)),
        _list_shown("Unexpected", (_show(name, held) for name in unexpected)),
        _show_nearest(missing, unexpected, expected, held),
        _compare_kinds(expected, held),
    ]
    return " ".join(filter(None, sentences))


def _show(name: str, shapes: Shapes) -> str:
    return f"{name} {shapes[name]}"


def _list_shown(title: str, items: Iterable[str]) -> str:
    """List the first few items in a sentence, and say how many follow."""
    shown = list(items)
    if not shown:
        return ""
    more = f" and {len(shown) - N_SHOWN} more" if len(shown) > N_SHOWN else ""
    return f"{title}: {', '.join(shown[:N_SHOWN])}{more}."


def _show_nearest(
    missing: Sequence[str], unexpected: Sequence[str], expected: Shapes, held: Shapes
) -> str:
    """Name the entry of the file that is most like one of the missing tensors."""
    compared = [name for name in unexpected[:N_COMPARED] if len(name) <= MOST_COMPARED]
    for name in missing[:N_SHOWN]:
        for near in difflib.get_close_matches(name, compared, 1, 0.7):
            return f"Nearest to {_show(name, expected)} is {_show(near, held)}."
    return ""


def _compare_kinds(expected: Shapes, held: Shapes) -> str:
    """Say which network the file is of, if it looks like one, and which was wanted."""
    kind, wanted = recognise(held), recognise(expected)
    if kind is None or kind == wanted:
        return ""
    but = f", and the backbone is {wanted}" if wanted else ""
    return f"The file looks like {kind}{but}; pass the backbone that it is of."


def recognise(shapes: Shapes) -> str | None:
    """Guess from names and shapes which kind of network has these tensors."""
    kind = _recognise_resnet(shapes) or _recognise_transformer(shapes)
    if kind is None:
        for pattern, family in TELLING.items():
            if any(re.search(pattern, name) for name in shapes):
                return family
    return kind


def _recognise_resnet(shapes: Shapes) -> str | None:
    """Name a ResNet by the number and kind of its blocks."""
    pattern = re.compile(r"(?:^|\.)layer(\d)\.(\d+)\.conv(\d)\.weight$")
    found = [(m, shapes[name]) for name in shapes if (m := pattern.search(name))]
    if not found:
        return None
    blocks: dict[str, int] = {}
    for match, _ in found:
        blocks[match[1]] = max(blocks.get(match[1], 0), int(match[2]) + 1)
    counts = tuple(blocks[layer] for layer in sorted(blocks))
    bottleneck = any(match[3] == "3" for match, _ in found)
    depth = DEPTHS.get((counts, bottleneck))
    width = min((m[1], int(m[2]), m[3], shape) for m, shape in found)[-1][0]
    return (
        f"a ResNet{'' if depth is None else f'-{depth}'} "
        f"({', '.join(map(str, counts))} {'bottleneck' if bottleneck else 'basic'} "
        f"blocks, the first {width} channels wide)"
    )


def _recognise_transformer(shapes: Shapes) -> str | None:
    """Name a vision transformer by its position embeddings and blocks."""
    pattern = r"(^|\.)(pos_embed|pos_embedding|position_embeddings)(\.weight)?$"
    name = next((n for n in shapes if re.search(pattern, n)), None)
    if name is None or len(shapes[name]) < 2:
        return None
    positions, width = shapes[name][-2:]
    numbers = [
        re.search(r"(?:blocks?|layers?)[._](?:layer_)?(\d+)\.", n) for n in shapes
    ]
    depth = max((int(m[1]) + 1 for m in numbers if m), default="?")
    return (
        f"a vision transformer ({depth} blocks, {width} wide, {name} for "
        f"{positions} positions)"
    )
