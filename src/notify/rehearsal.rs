//! Delivery on a virtual clock to receivers that take everything at once: which messages would leave, when, in
//! which bytes.
//!
//! Runs on the lists that deliver for real, so that what is gathered here is what is gathered there. Refuses to send.

use std::sync::Arc;

use super::queue::Queue;
use super::receiver::Receiver;
use crate::model::{DeliveryReceipt, Notice, Time};

/// A message that would have left.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When.
    pub at: Time,
    /// The receiver.
    pub receiver: Arc<str>,
    /// What it carries.
    pub notices: Vec<Arc<Notice>>,
    /// Its bytes, or why it can't be built.
    pub body: Result<Vec<u8>, String>,
}

/// The receivers and their lists.
#[derive(Debug)]
pub struct Rehearsal(Vec<(Receiver, Queue)>);

impl Rehearsal {
    /// Lists for `receivers`, all empty.
    pub fn new(receivers: Vec<Receiver>) -> Self {
        let list = |receiver: Receiver| (Queue::new(Arc::clone(&receiver.name), receiver.pace), receiver);
        Self(receivers.into_iter().map(list).map(|(queue, receiver)| (receiver, queue)).collect())
    }

    /// The messages that carry `notices`, each handed over when it is due, in the order in which they leave.
    pub fn deliver(mut self, notices: &[Arc<Notice>]) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut rest = notices;
        while let Some(first) = rest.first() {
            let now = first.at;
            self.send_before(now, &mut sent);
            let together = rest.iter().take_while(|notice| notice.at <= now).count().max(1);
            let (due, later) = rest.split_at(together.min(rest.len()));
            for notice in due {
                if let Some((_, queue)) = self.0.iter_mut().find(|(receiver, _)| receiver.name == notice.receiver) {
                    queue.push(now, Arc::clone(notice));
                }
            }
            rest = later;
        }
        self.send_before(Time::from_millis(i64::MAX), &mut sent);
        sent.sort_by_key(|message| message.at);
        sent
    }

    /// Sends what can leave before `now`; what is due at `now` itself may still get company.
    fn send_before(&mut self, now: Time, sent: &mut Vec<Sent>) {
        for (receiver, queue) in &mut self.0 {
            while let Some(at) =
                queue.next_send_at().map(|at| at.max(queue.oldest().unwrap_or(at))).filter(|at| *at < now)
            {
                let notices = queue.take_batch(at, |notices| receiver.fitting(at, notices));
                if notices.is_empty() {
                    break;
                }
                queue.on_result(at, 0.0, Ok(DeliveryReceipt::default()));
                drop(queue.take_reports());
                let body = receiver.render(at, &notices);
                sent.push(Sent { at, receiver: Arc::clone(&receiver.name), notices, body });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{at, firing, resolved};
    use super::*;
    use crate::model::{Level, NoticeKind};
    use crate::notify::config::ReceiverConfig;

    #[test]
    fn the_first_leaves_at_once_and_what_follows_within_a_second_goes_together() {
        let receivers = Receiver::build(&[ReceiverConfig::nowhere("ops")]).expect("a receiver");
        let notices = [
            firing("a", Level::Warning, 0.0),
            firing("b", Level::Warning, 0.2),
            firing("c", Level::Error, 0.9),
            Notice { receiver: "nobody".into(), ..firing("d", Level::Error, 0.9) },
            resolved("a", 60.0),
        ];
        let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
        let sent = Rehearsal::new(receivers).deliver(&notices);
        let sent_names: Vec<(Time, Vec<&str>)> = sent
            .iter()
            .map(|message| (message.at, message.notices.iter().map(|notice| &**notice.subject.name()).collect()))
            .collect();
        assert_eq!(sent_names, [(at(0.0), vec!["a"]), (at(1.0), vec!["c", "b"]), (at(60.0), vec!["a"])]);
        assert_eq!(sent[2].notices[0].kind, NoticeKind::Resolved);
        let body = sent[0].body.as_ref().expect("built");
        assert!(std::str::from_utf8(body).expect("text").contains("[WARNING] shop/a"));
    }
}
