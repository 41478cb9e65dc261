//! In which order the reports of a run were sent.
//!
//! A report that was held up, by a sidecar that stood still for example, may arrive after a newer one; taken then, its
//! lower counts would look like a restart of the count, and what lies between would count twice.

use crate::model::update::Ordinal;

/// The last report of each agent's run, by the agent's slot.
#[derive(Debug, Default)]
pub(super) struct Orders(Vec<Option<Box<Order>>>);

#[derive(Debug)]
struct Order {
    run: Box<str>,
    number: u64,
    /// The run before, reports of which can only be late.
    before: Option<Box<str>>,
}

impl Orders {
    /// Begins with no report for who holds `slot` from now on.
    pub(super) fn begin(&mut self, slot: u32) {
        if let Some(order) = self.0.get_mut(slot as usize) {
            *order = None;
        }
    }

    /// Notes the report, or says why it comes too late.
    pub(super) fn note(&mut self, slot: u32, ordinal: &Ordinal<'_>) -> Result<(), &'static str> {
        let place = slot as usize;
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        let Some(slot) = self.0.get_mut(place) else { return Ok(()) };
        let before = match slot {
            None => None,
            Some(order) if *order.run == *ordinal.run => {
                if ordinal.number <= order.number {
                    return Err(
                        "a newer report of the same run was taken before; number each report higher than the last",
                    );
                }
                order.number = ordinal.number;
                return Ok(());
            }
            Some(order) if order.before.as_deref() == Some(&*ordinal.run) => {
                return Err(
                    "another run reports under this name since; give agents that run at the same time a name each",
                );
            }
            Some(order) => Some(std::mem::take(&mut order.run)),
        };
        *slot = Some(Box::new(Order { run: Box::from(&*ordinal.run), number: ordinal.number, before }));
        Ok(())
    }
}
