//! Order never shows.

use policy::compile::ClusterPlans;
use proptest::prelude::*;

use super::world::{Compiled, world};
use super::yaml::Dice;

fn bytes(world: &Compiled) -> Vec<String> {
    let parts = world.plans.values().flat_map(ClusterPlans::parts);
    parts.map(|(_, _, plan)| plan.to_json().expect("a plan is JSON")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_order_of_documents_files_keys_and_lists_never_shows_in_a_plan(world in world(), seed in 1..u64::MAX) {
        let shuffled = world.compiled(Dice::new(seed));
        prop_assert_eq!(bytes(&world.compiled(Dice::still())), bytes(&shuffled));
    }
}
