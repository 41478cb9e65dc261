//! Which resource and instrumentation scope items come from: the profile to read them by, and hashes that identify them.

use std::hash::{BuildHasher, Hash};

use super::attributes::{Attributes, text};
use super::profile::Profile;
use super::{PROFILES, gen_ai, identity};
use crate::model::TelemetryChannel;
use crate::otlp::config::AgentRule;
use crate::otlp::wire::{InstrumentationScope, KeyValue, Resource};

/// A resource of an export. Computed once for all items below it.
pub(super) struct ResourceIdentity {
    /// The attributes that are looked up, and no others: a resource may have any number.
    attributes: Vec<KeyValue>,
    /// The hash of all its attributes.
    hash: u64,
}

/// An instrumentation scope of a resource. Computed once for all items below it.
pub(super) struct ScopeIdentity<'a> {
    pub(super) channel: TelemetryChannel,
    pub(super) profile: &'static Profile,
    /// The attributes of the resource that are looked up.
    pub(super) resource: Attributes<'a>,
    /// The hash of the scope's name.
    pub(super) scope_hash: u64,
    /// The hash of the scope's name and all attributes of the resource.
    pub(super) identity_hash: u64,
    /// The hash of what identifies the process that exports.
    pub(super) process_hash: u64,
}

impl ResourceIdentity {
    /// The identity of `resource`; attributes that `rules` match on are kept as well.
    pub(super) fn new(digests: &impl BuildHasher, rules: &[AgentRule], resource: Option<&Resource>) -> Self {
        let attributes = resource.map_or(&[][..], |it| &it.attributes);
        Self { attributes: identity::relevant(rules, attributes), hash: attributes_hash(digests, attributes) }
    }

    /// The identity of `scope`, whose items arrived by `channel`.
    pub(super) fn scope(
        &self,
        digests: &impl BuildHasher,
        channel: TelemetryChannel,
        scope: Option<&InstrumentationScope>,
    ) -> ScopeIdentity<'_> {
        let resource = Attributes::new(&self.attributes);
        let name = scope.map_or("", |it| &it.name);
        let service = text(resource, "service.name").unwrap_or_default();
        let find = |name: &str| PROFILES.iter().find(|it| it.prefixes.iter().any(|prefix| name.starts_with(prefix)));
        let profile = find(name).or_else(|| find(&service)).copied().unwrap_or(&gen_ai::PROFILE);
        let host = text(resource, "host.name").filter(|_| profile.uses_host_name);
        let process = [Some(service), text(resource, "service.instance.id"), host];
        let scope_hash = digests.hash_one(name);
        ScopeIdentity {
            channel,
            profile,
            resource,
            scope_hash,
            identity_hash: digests.hash_one((self.hash, scope_hash)),
            process_hash: digests.hash_one(process),
        }
    }
}

/// The hash of attributes, whatever their order.
pub(super) fn attributes_hash(digests: &impl BuildHasher, attributes: &[KeyValue]) -> u64 {
    attributes.iter().fold(0_u64, |sum, it| sum.wrapping_add(digests.hash_one((&it.key, EncodedAttribute(it)))))
}

/// Hashes an attribute by its protobuf encoding, which is the same whenever it is sent again.
struct EncodedAttribute<'a>(&'a KeyValue);

impl Hash for EncodedAttribute<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        prost::Message::encode_to_vec(self.0).hash(state);
    }
}
