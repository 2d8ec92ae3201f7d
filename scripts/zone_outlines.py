"""Creates the zone outlines of the report's map from TLC's shapefile of the taxi zones.

    pip install 'shapely>=2.1' pyshp
    python scripts/zone_outlines.py taxi_zones.zip pipeline/report/zones.json

The shapefile is https://d37ci6vzurychx.cloudfront.net/misc/taxi_zones.zip, in feet (EPSG:2263). All zones are
simplified as one coverage, so that neighbours keep their common borders. Zones with several records (56, 103) become
one outline. Coordinates are integers; the map is 1000 units wide.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import shapefile
import shapely

TOLERANCE = 300.0  # feet
SMALLEST = 1.0  # square units; smaller parts, such as rocks in the water, are omitted, but never a whole zone
WIDTH = 1000


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    with shapefile.Reader(str(source)) as reader:
        records = [(int(r.record["LocationID"]), shapely.geometry.shape(r.shape)) for r in reader.iterShapeRecords()]
    numbers = sorted({number for number, _ in records})
    whole = [shapely.union_all([shape for of, shape in records if of == number]) for number in numbers]
    simple = shapely.coverage_simplify([shapely.make_valid(shape) for shape in whole], TOLERANCE)
    left, bottom, right, top = shapely.total_bounds(simple)
    scale = WIDTH / (right - left)

    def path(ring: shapely.LinearRing) -> str:
        points = [(round((x - left) * scale), round((top - y) * scale)) for x, y in ring.coords]
        kept = [point for at, point in enumerate(points) if at == 0 or point != points[at - 1]]
        moves = [(x - a, y - b) for (x, y), (a, b) in zip(kept[1:], kept[:-1], strict=True)]
        return f"M{kept[0][0]},{kept[0][1]}l" + " ".join(f"{x},{y}" for x, y in moves) + "z"

    def outline(shape: shapely.Geometry) -> str:
        parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
        largest = max(parts, key=lambda part: part.area)
        kept = [part for part in parts if part is largest or part.area * scale**2 >= SMALLEST]
        return "".join(path(ring) for part in kept for ring in [part.exterior, *part.interiors])

    content = {
        "width": WIDTH,
        "height": round((top - bottom) * scale),
        "zones": {number: outline(shape) for number, shape in zip(numbers, simple, strict=True)},
    }
    target.write_text(json.dumps(content, separators=(",", ":")).replace('","', '",\n"') + "\n")


if __name__ == "__main__":
    main()
