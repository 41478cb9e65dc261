//! Registers a family of the table of names.

use prometheus_client::registry::{Metric, Registry, Unit};

use crate::metrics::names;

/// Registers `metric` under the family's name and gives back a handle to it.
pub(super) fn add<M: Metric + Clone>(registry: &mut Registry, family: &names::FamilySpec, metric: M) -> M {
    // The client adds `_total` and the unit to the name by itself.
    match family.unit().and_then(|unit| Some((unit, family.base().strip_suffix(unit)?.strip_suffix('_')?))) {
        Some((unit, name)) => {
            registry.register_with_unit(name, family.help, Unit::Other(unit.to_owned()), metric.clone());
        }
        None => registry.register(family.base(), family.help, metric.clone()),
    }
    metric
}
