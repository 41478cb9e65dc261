"""Reads a page of metrics with the reference parsers and prints its samples, one JSON list a line, sorted.

Usage: exposition.py openmetrics|text < page
"""
import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

page = sys.stdin.buffer.read().decode("utf-8")
parse = {"openmetrics": openmetrics, "text": text}[sys.argv[1]]
samples = []
for family in parse(page):
    for sample in family.samples:
        samples.append([sample.name, sorted(sample.labels.items()), repr(float(sample.value)), family.type])
for sample in sorted(samples):
    print(json.dumps(sample, ensure_ascii=False))
