//! The families of custom metrics, whose names and labels clients chose.

use std::collections::HashMap;

use crate::metrics::format::ExpositionFormat;
use crate::metrics::series::{SeriesWriter, write_escaped, write_number};
use crate::model::custom_metric::full_name;
use crate::model::{CUSTOM_PREFIX, CustomKind, CustomMetrics, CustomSeries, Snapshot};

/// A series, and the labels of what it is of.
type Labeled<'s> = (&'s str, &'s CustomSeries);

/// Writes all families of custom metrics.
pub(super) fn write(writer: &mut SeriesWriter<'_>, fleet: &Snapshot) {
    if fleet.custom.is_empty() {
        return;
    }
    // The series of a family must be adjacent, and are spread over agents, components and projects.
    let places: HashMap<&str, usize> =
        fleet.custom.iter().enumerate().map(|(place, (name, _))| (&**name, place)).collect();
    let mut found: Vec<Vec<Labeled<'_>>> =
        fleet.custom.iter().map(|(_, family)| Vec::with_capacity(family.series)).collect();
    for agent in fleet.agents.iter() {
        sort_into(&mut found, &places, &agent.labels, agent.custom.as_deref());
    }
    for component in fleet.components.iter() {
        sort_into(&mut found, &places, &component.labels, component.custom.as_deref());
    }
    for project in &fleet.projects {
        sort_into(&mut found, &places, &project.labels, project.custom.as_deref());
    }
    for ((name, family), series) in fleet.custom.iter().zip(found) {
        if writer.is_open() && !series.is_empty() {
            write_family(writer, name, family.kind, &series);
        }
    }
}

fn sort_into<'s>(
    found: &mut [Vec<Labeled<'s>>],
    places: &HashMap<&str, usize>,
    labels: &'s str,
    metrics: Option<&'s CustomMetrics>,
) {
    for series in metrics.into_iter().flat_map(CustomMetrics::iter) {
        if let Some(family) = places.get(&*series.name).and_then(|place| found.get_mut(*place)) {
            family.push((labels, series));
        }
    }
}

fn write_family(writer: &mut SeriesWriter<'_>, name: &str, kind: CustomKind, all: &[Labeled<'_>]) {
    let sample = format!("{CUSTOM_PREFIX}{}", full_name(name, kind));
    let base = match writer.format() {
        ExpositionFormat::Text => sample.clone(),
        ExpositionFormat::OpenMetrics => format!("{CUSTOM_PREFIX}{name}"),
    };
    let kind = kind.as_str();
    let declaration = format!("# HELP {base} Custom metric {name}, as reported.\n# TYPE {base} {kind}\n");
    writer.buffer().extend_from_slice(declaration.as_bytes());
    for (labels, series) in all {
        let out = writer.buffer();
        out.extend_from_slice(sample.as_bytes());
        out.push(b'{');
        out.extend_from_slice(labels.as_bytes());
        for (label, value) in &series.labels {
            out.push(b',');
            out.extend_from_slice(label.as_bytes());
            out.extend_from_slice(b"=\"");
            write_escaped(out, value);
            out.push(b'"');
        }
        out.extend_from_slice(b"} ");
        write_number(out, series.value.get());
        out.push(b'\n');
    }
}
