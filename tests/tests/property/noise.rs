//! No input panics a reader: neither noise, nor what was sound and is no longer.

use policy::plan::{Configuration, Role, Trial};
use policy::{Mesh, Plan, Policy, certificate, compile};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::world::world;
use super::yaml::Dice;

/// Reads a text by every door, and compiles what comes out.
fn read_all(text: &str) {
    let (mesh, _) = Mesh::read("mesh.yaml", text);
    let root = "istio-system".parse().expect("a namespace");
    let (policies, _) = Policy::read("p.yaml", text, &root);
    if let Some(mesh) = mesh {
        let _either = compile(&mesh, &policies);
    }
    for role in Role::ALL {
        let _either = Plan::read(role, text.as_bytes()).is_ok();
    }
    let _either = Configuration::read(text.as_bytes()).is_ok();
}

/// A way to spoil a text.
#[derive(Debug, Clone)]
struct Spoil {
    at: Index,
    cut: usize,
    put: String,
}

impl Spoil {
    fn apply(&self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        let start = self.at.index(chars.len() + 1);
        let end = (start + self.cut).min(chars.len());
        chars.splice(start..end, self.put.chars());
        chars.into_iter().collect()
    }
}

fn spoils() -> impl Strategy<Value = Vec<Spoil>> {
    let put = prop_oneof![
        "[\\[\\]{}:,\"'#&*!|>%@`?~ \n\t-]{0,3}",
        "\\PC{0,3}",
        Just("null".to_owned()),
        Just("*".to_owned())
    ];
    let spoil = (any::<Index>(), 0..6_usize, put).prop_map(|(at, cut, put)| Spoil { at, cut, put });
    vec(spoil, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_panics_a_reader(text in "(\\PC|[\n\t\r:{}\\[\\],\"'&*#?|>%!-]){0,120}") {
        read_all(&text);
    }

    #[test]
    fn no_bytes_panic_a_reader(bytes in vec(any::<u8>(), 0..200)) {
        for role in Role::ALL {
            let _either = Plan::read(role, &bytes).is_ok();
        }
        let _either = Configuration::read(&bytes).is_ok();
        let _either = certificate::issuer(&bytes).is_ok();
    }

    #[test]
    fn no_spoilt_document_panics_a_reader_or_the_compiler(world in world(), spoils in spoils()) {
        let spoil = |text: String| spoils.iter().fold(text, |text, spoil| spoil.apply(&text));
        let sound = world.mesh.document(&mut Dice::still());
        read_all(&spoil(sound.clone()));
        let (mesh, _) = Mesh::read("mesh.yaml", &sound);
        let mesh = mesh.expect("a sound mesh");
        for document in &world.policies {
            let text = spoil(document.document(&mut Dice::still()));
            let (policies, _) = Policy::read("p.yaml", &text, mesh.root_namespace());
            let _either = compile(&mesh, &policies);
        }
    }

    #[test]
    fn a_spoilt_plan_is_refused_or_sound_and_never_a_panic(world in world(), spoils in spoils()) {
        let world = world.compiled(Dice::still());
        let plans = world.plans.into_values().next().expect("plans");
        for (role, _, plan) in plans.parts() {
            let json = plan.to_json().expect("a plan is JSON");
            let spoilt = spoils.iter().fold(json, |text, spoil| spoil.apply(&text));
            if let Ok(read) = Plan::read(role, spoilt.as_bytes()) {
                let again = read.to_json().expect("a plan is JSON");
                prop_assert_eq!(Plan::read(role, again.as_bytes()).expect("what was written is read"), read);
            }
            let open = plan.without_policies();
            let trial = Some(Trial { digest: "1".to_owned(), plan: plan.clone() });
            let whole = Configuration { role, digest: "0".to_owned(), plan: open, trial };
            let json = serde_json::to_string(&whole).expect("a configuration is JSON");
            prop_assert_eq!(Configuration::read(json.as_bytes()).expect("a sound configuration"), whole);
            let spoilt = spoils.iter().fold(json, |text, spoil| spoil.apply(&text));
            let _either = Configuration::read(spoilt.as_bytes()).is_ok();
        }
    }
}
