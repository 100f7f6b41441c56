//! The property tier: what holds for every mesh, every policy and every request, tried on many of them.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a world that cannot be made fails its test"
)]

#[path = "property/issuer.rs"]
mod issuer;
#[path = "property/meaning.rs"]
mod meaning;
#[path = "property/noise.rs"]
mod noise;
#[path = "property/oracle.rs"]
mod oracle;
#[path = "property/order.rs"]
mod order;
#[path = "property/request.rs"]
mod request;
#[path = "property/schedules.rs"]
mod schedules;
#[path = "property/spec.rs"]
mod spec;
#[path = "property/trial.rs"]
mod trial;
#[path = "property/verdicts.rs"]
mod verdicts;
#[path = "property/world.rs"]
mod world;
#[path = "property/yaml.rs"]
mod yaml;
