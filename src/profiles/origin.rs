//! Where items come from: their producer and their library, looked at once for all that they export.
//!
//! Refuses to keep more of a producer's attributes than anything is looked for in.

use std::hash::{BuildHasher, Hash};

use super::attributes::text;
use super::table::Profile;
use super::{PROFILES, gen_ai, identity};
use crate::model::TelemetryChannel;
use crate::otlp::config::AgentRule;
use crate::otlp::wire::{InstrumentationScope, KeyValue, Resource};

/// Who exports.
pub(super) struct Producer {
    sought: Vec<KeyValue>,
    /// Hash of all its attributes.
    all: u64,
}

/// Where an item comes from.
pub(super) struct Origin<'a> {
    pub(super) channel: TelemetryChannel,
    pub(super) profile: &'static Profile,
    /// What is looked for in the producer's attributes.
    pub(super) resource: &'a [KeyValue],
    /// Hashes of the library's name, and of that and all of the producer's attributes.
    pub(super) scope: u64,
    pub(super) all: u64,
    /// A hash of what tells the producer's process from others.
    pub(super) producer: u64,
}

impl Producer {
    /// The producer that a resource describes, of which `rules` may ask for more.
    pub(super) fn of(hash: &impl BuildHasher, rules: &[AgentRule], resource: Option<&Resource>) -> Self {
        let attributes = resource.map_or(&[][..], |it| &it.attributes);
        Self { sought: identity::sought(rules, attributes), all: sum(hash, attributes) }
    }

    /// The origin of what its library `scope` says by `channel`.
    pub(super) fn origin(
        &self,
        hash: &impl BuildHasher,
        channel: TelemetryChannel,
        scope: Option<&InstrumentationScope>,
    ) -> Origin<'_> {
        let resource = &self.sought;
        let name = scope.map_or("", |it| &it.name);
        let service = text(resource, "service.name").unwrap_or_default();
        let by = |name: &str| PROFILES.iter().find(|it| it.prefixes.iter().any(|prefix| name.starts_with(prefix)));
        let profile = by(name).or_else(|| by(&service)).copied().unwrap_or(&gen_ai::PROFILE);
        let host = text(resource, "host.name").filter(|_| profile.names_host);
        let parts = [Some(service), text(resource, "service.instance.id"), host];
        let scope = hash.hash_one(name);
        Origin {
            channel,
            profile,
            resource,
            scope,
            all: hash.hash_one((self.all, scope)),
            producer: hash.hash_one(parts),
        }
    }
}

/// A hash of attributes in whatever order.
pub(super) fn sum(hash: &impl BuildHasher, attributes: &[KeyValue]) -> u64 {
    attributes.iter().fold(0_u64, |sum, it| sum.wrapping_add(hash.hash_one((&it.key, Written(it)))))
}

/// An attribute as its bytes on the wire, which are the same each time that it is sent.
struct Written<'a>(&'a KeyValue);

impl Hash for Written<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        prost::Message::encode_to_vec(self.0).hash(state);
    }
}
