"""Make `traffic_accidents.csv`: hourly road traffic of one invented city, for trying out analyses.

Everything in it is synthetic: no row is a measurement. The relations are plausible ones, so that an analysis finds
something. More traffic, rain, bad pavement and night mean more accidents; traffic and rain make it slower; fines
follow traffic and speed. Needs nothing but Python.

    python notebooks/make_traffic_data.py [OUT.csv]
"""

import csv
import math
import random
import sys

ROWS = 8756
SEED = 20_240_101
COLUMNS = [
    "accidents",  # in this hour and district
    "traffic_fine_amount",  # fines of the hour, in thousands
    "traffic_density",  # 0 (empty) to 10 (standstill)
    "traffic_lights",  # in the district
    "pavement_quality",  # 0 (holes) to 5 (new)
    "urban_area",  # 1: city, 0: outskirts
    "average_speed",  # km/h
    "rain_intensity",  # mm in the hour
    "vehicle_count",
    "time_of_day",  # the hour, 0 to 23
]


def between(value, low, high):
    """Hold a value within bounds."""
    return max(low, min(high, value))


def poisson(rng, mean):
    """Draw a count by multiplying uniform numbers (Knuth, The Art of Computer Programming, volume 2, 3.4.1)."""
    count, product, limit = 0, rng.random(), math.exp(-mean)
    while product > limit:
        count += 1
        product *= rng.random()
    return count


def rush(hour):
    """How busy an hour of the day is, 0 to 1: peaks at 8 and at 17."""
    peaks = math.exp(-((hour - 8) ** 2) / 6) + 1.1 * math.exp(-((hour - 17) ** 2) / 9)
    daylight = 0.35 if 7 <= hour <= 21 else 0.05
    return between(daylight + 0.6 * peaks, 0, 1)


def make_rain(rng, hours):
    """Give the rain of each hour: spells that last, between dry ones."""
    rain, raining = [], False
    for _ in range(hours):
        raining = rng.random() < (0.82 if raining else 0.045)
        rain.append(round(rng.expovariate(1 / 2.2), 1) if raining else 0.0)
    return rain


def make_row(rng, hour, rain):
    """Make one hour in one district."""
    urban = int(rng.random() < 0.65)
    lights = between(round(rng.gauss(14 if urban else 5, 3)), 0, 30)
    pavement = round(between(rng.gauss(3.4 if urban else 2.8, 0.9), 0.0, 5.0), 2)
    density = round(between(rng.gauss(1.2 + 6.5 * rush(hour) + 1.1 * urban + 0.08 * rain, 1.0), 0.0, 10.0), 2)
    vehicles = max(0, round(rng.gauss(120 + 165 * density * (1.25 if urban else 0.8), 70)))
    speed = 82 - 27 * urban - 3.4 * density - 1.3 * min(rain, 10) + 1.5 * (pavement - 3) - 0.25 * lights
    speed = round(between(rng.gauss(speed, 5), 8, 120), 1)
    night = 0.35 if hour < 5 or hour > 22 else 0.0
    risk = 0.1 + 0.22 * density + 0.11 * min(rain, 12) + 0.025 * (speed - 45) - 0.15 * (pavement - 3) + night
    accidents = poisson(rng, math.exp(between(risk, -4, 3.5)))
    fines = between(rng.gauss(0.9 + 0.28 * density + 0.035 * max(speed - 50, 0) + 0.1 * accidents, 0.8), 0.0, 20.0)
    return [accidents, round(fines, 2), density, lights, pavement, urban, speed, rain, vehicles, hour]


def make_rows(seed=SEED):
    """Make all rows, hour after hour; the same ones for the same seed."""
    rng = random.Random(seed)
    return [make_row(rng, n % 24, rain) for n, rain in enumerate(make_rain(rng, ROWS))]


def write_csv(path):
    """Write all rows as CSV, under their columns' names."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(make_rows())


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "traffic_accidents.csv"
    write_csv(path)
    print(f"{path}: {ROWS} rows of synthetic traffic data ({len(COLUMNS)} columns), none of them measured")


if __name__ == "__main__":
    main()
