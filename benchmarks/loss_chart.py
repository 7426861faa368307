"""Loss against steps, seconds and bytes: an SVG of three panels with one axis of the loss."""

import math
from html import escape

COLORS = ["#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f",
           "#8c564b"]
WIDTH, HEIGHT = 300, 250  # of a panel
LEFT, TOP, GAP = 60, 44, 28
LEGEND_ROW, LEGEND_COLUMN = 18, 300


def ticks_of(low, high, logarithmic):
    """Round numbers between two: powers of ten, or about five equal steps."""
    if logarithmic:
        exponents = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        return [10.0**exponent for exponent in exponents]
    size = 10 ** math.floor(math.log10((high - low) / 4))
    size *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (size * factor) <= 6)
    first = math.ceil(low / size - 1e-9)
    return [i * size for i in range(first, math.floor(high / size + 1e-9) + 1)]


def scale(low, high, length, logarithmic=False):
    """From a value to its pixel."""
    to = math.log10 if logarithmic else float
    return lambda value: length * (to(value) - to(low)) / (to(high) - to(low))


def panel(index, lines, axis, label, logarithmic, losses, target):
    low_loss, high_loss = losses
    values = [point[axis] for _, points in lines for point in points]
    low, high = (min(values), max(values)) if logarithmic else (0, max(values))
    x = scale(low, high, WIDTH, logarithmic)
    y = scale(high_loss, low_loss, HEIGHT)
    out = [f'<g transform="translate({LEFT + index * (WIDTH + GAP)},{TOP})">',
           f'<clipPath id="c{index}"><rect width="{WIDTH}" height="{HEIGHT}"/></clipPath>']
    for tick in ticks_of(low, high, logarithmic):
        out.append(f'<path class="grid" d="M{x(tick):.1f} 0V{HEIGHT}"/><text class="tick" '
                   f'x="{x(tick):.1f}" y="{HEIGHT + 16}">{tick:,.10g}</text>')
    for tick in ticks_of(low_loss, high_loss, False):
        out.append(f'<path class="grid" d="M0 {y(tick):.1f}H{WIDTH}"/>')
        if index == 0:
            out.append(f'<text class="loss" x="-8" y="{y(tick) + 4:.1f}">{tick:.3g}</text>')
    out.append(f'<path class="target" d="M0 {y(target):.1f}H{WIDTH}"/>')
    for color, (_, points) in zip(COLORS, lines):
        path = "L".join(f"{x(point[axis]):.1f} {y(point['loss']):.1f}" for point in points)
        out.append(f'<path class="line" clip-path="url(#c{index})" stroke="{color}" d="M{path}"/>')
    out.append(f'<rect class="frame" width="{WIDTH}" height="{HEIGHT}"/>'
               f'<text class="tick" x="{WIDTH / 2}" y="{HEIGHT + 36}">{escape(label)}</text></g>')
    return out


def svg_of(title, lines, losses, target, logarithmic_seconds=False):
    """`lines`: pairs of a name and points, each with loss, step, seconds and mib."""
    legend = TOP + HEIGHT + 66
    columns = 3
    rows = math.ceil(len(lines) / columns)
    width = LEFT + 3 * WIDTH + 2 * GAP + 20
    height = legend + rows * LEGEND_ROW
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
           '<style>.grid{stroke:#ddd}.target{stroke:#888;stroke-dasharray:5 4}'
           '.line{fill:none;stroke-width:1.8}.frame{fill:none;stroke:#444}'
           '.tick{text-anchor:middle}.loss{text-anchor:end}</style>',
           f'<rect width="{width}" height="{height}" fill="#fff"/>',
           f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>']
    out += panel(0, lines, "step", "steps of rank 0", False, losses, target)
    out += panel(1, lines, "seconds", "seconds", logarithmic_seconds, losses, target)
    out += panel(2, lines, "mib", "MiB that rank 0 sent and received", True, losses, target)
    for i, (color, (name, _)) in enumerate(zip(COLORS, lines)):
        left, at = LEFT + (i % columns) * LEGEND_COLUMN, legend + (i // columns) * LEGEND_ROW
        out.append(f'<path d="M{left} {at - 4}h24" stroke="{color}" stroke-width="2.5"/>'
                   f'<text x="{left + 30}" y="{at}">{escape(name)}</text>')
    return "\n".join(out) + "\n</svg>\n"
