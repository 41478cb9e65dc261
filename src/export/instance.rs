//! Recognizes what this sidecar sent before: two sidecars that export to each other would send it round for ever.
//!
//! Every resource that leaves carries the ids of the sidecars that it passed through.

use crate::otlp::wire::{
    ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest, Resource, Value,
    string_attribute, value,
};

/// The attribute of a resource with the ids, separated by spaces.
pub(super) const FORWARDED_BY: &str = "lookout.forwarded_by";

/// Marks resources with the id `instance`.
fn mark(resource: &mut Option<Resource>, instance: &str) {
    let resource = resource.get_or_insert_default();
    let known = resource.attributes.iter_mut().find(|attribute| attribute.key == FORWARDED_BY);
    match known.and_then(|attribute| attribute.value.as_mut()?.value.as_mut()) {
        Some(Value::StringValue(ids)) => {
            ids.push(' ');
            ids.push_str(instance);
        }
        _ => resource.attributes.push(string_attribute(FORWARDED_BY, instance)),
    }
}

/// Whether it passed through `instance` before.
pub(super) fn has_passed(resource: Option<&Resource>, instance: &str) -> bool {
    resource.is_some_and(|resource| {
        resource.attributes.iter().any(|attribute| {
            attribute.key == FORWARDED_BY
                && matches!(value(attribute), Some(Value::StringValue(ids)) if ids.split(' ').any(|id| id == instance))
        })
    })
}

/// A request whose resources can be marked.
pub(super) trait Marked {
    /// Removes what passed through `instance` before, and marks the rest. Returns how many resources were removed.
    fn mark(&mut self, instance: &str) -> usize;
}

macro_rules! marked {
    ($($request:ty: $resources:ident),*) => {$(
        impl Marked for $request {
            fn mark(&mut self, instance: &str) -> usize {
                let before = self.$resources.len();
                self.$resources.retain(|it| !has_passed(it.resource.as_ref(), instance));
                self.$resources.iter_mut().for_each(|it| mark(&mut it.resource, instance));
                before - self.$resources.len()
            }
        }
    )*};
}

marked!(
    ExportTraceServiceRequest: resource_spans,
    ExportMetricsServiceRequest: resource_metrics,
    ExportLogsServiceRequest: resource_logs
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::ResourceSpans;

    #[test]
    fn what_passed_before_is_removed_and_the_rest_is_marked() {
        let mut request = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans::default()] };
        assert_eq!(request.mark("a"), 0);
        assert_eq!(request.mark("b"), 0, "another sidecar");
        let resource = request.resource_spans[0].resource.clone().expect("a resource");
        assert_eq!(value(&resource.attributes[0]), Some(&Value::StringValue("a b".to_owned())));
        assert_eq!(request.clone().mark("ab"), 0);
        assert_eq!((request.mark("a"), request.resource_spans.len()), (1, 0));
    }
}
