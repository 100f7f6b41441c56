//! Who trusts whom, as we say it and as openssl does, over hierarchies that are sound or spoiled in some way.

use std::cell::RefCell;
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use isthmus::cert::{Bundle, CaKey, Certificate, Distrust, Side, judge};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::Duration;

use super::{NOW, SPIFFE, accepts};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Past,
    Future,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    Unsaid,
    Signs,
    SignsNot,
}

/// What a CA says of itself.
#[derive(Debug, Clone, Copy)]
struct Ca {
    authority: bool,
    length: Option<u8>,
    usage: Usage,
    when: When,
    /// Whether it says by which key it was signed.
    says_key: bool,
    extended: &'static [ExtendedKeyUsagePurpose],
    constraint: Option<(u8, &'static str)>,
}

/// What stands beside the leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Whole,
    Reversed,
    WithoutRoot,
    RootAlone,
    OfAnother,
    AnotherOfTheNameFirst,
}

/// What is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trusted {
    Own,
    OtherOfTheName,
    OwnThenOther,
    OtherThenOwn,
    Elsewhere,
    Intermediate,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct World {
    root: Ca,
    intermediate: Ca,
    below: Option<Ca>,
    shown: Shown,
    trusted: Trusted,
}

const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;
const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;
const PERMITTED: u8 = 0xa0;
const EXCLUDED: u8 = 0xa1;

fn rarely<T: Clone + std::fmt::Debug + 'static>(usual: T, others: Vec<T>) -> impl Strategy<Value = T> {
    prop_oneof![12 => Just(usual), 1 => prop::sample::select(others)]
}

fn ca(length: Option<u8>) -> impl Strategy<Value = Ca> {
    (
        rarely(true, vec![false]),
        rarely(length, vec![None, Some(0), Some(1)]),
        rarely(Usage::Signs, vec![Usage::Unsaid, Usage::SignsNot]),
        rarely(When::Now, vec![When::Past, When::Future]),
        rarely(true, vec![false]),
        rarely(&[][..], vec![&[SERVER], &[SERVER, CLIENT], &[ExtendedKeyUsagePurpose::CodeSigning]]),
        rarely(
            None,
            vec![
                Some((PERMITTED, "cluster.local")),
                Some((PERMITTED, "other.example")),
                Some((PERMITTED, ".local")),
                Some((EXCLUDED, "cluster.local")),
                Some((EXCLUDED, "other.example")),
            ],
        ),
    )
        .prop_map(|(authority, length, usage, when, says_key, extended, constraint)| Ca {
            authority,
            length,
            usage,
            when,
            says_key,
            extended,
            constraint,
        })
}

pub(super) fn world() -> impl Strategy<Value = World> {
    let below = prop_oneof![5 => Just(None), 1 => ca(Some(0)).prop_map(Some)];
    let shown = rarely(
        Shown::Whole,
        vec![
            Shown::Reversed,
            Shown::WithoutRoot,
            Shown::RootAlone,
            Shown::OfAnother,
            Shown::AnotherOfTheNameFirst,
        ],
    );
    let trusted = prop_oneof![
        3 => Just(Trusted::Own),
        2 => prop::sample::select(vec![
            Trusted::OtherOfTheName,
            Trusted::OwnThenOther,
            Trusted::OtherThenOwn,
            Trusted::Elsewhere,
            Trusted::Intermediate,
        ]),
    ];
    (ca(None), ca(Some(0)), below, shown, trusted).prop_map(
        |(root, mut intermediate, below, shown, trusted)| {
            if below.is_some() && intermediate.length == Some(0) && intermediate.says_key {
                intermediate.length = Some(1); // else hardly any such chain would hold
            }
            World { root, intermediate, below, shown, trusted }
        },
    )
}

fn params(name: &str, ca: &Ca) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = match ca.when {
        When::Now => (NOW - Duration::days(10), NOW + Duration::days(10)),
        When::Past => (NOW - Duration::days(10), NOW - Duration::days(5)),
        When::Future => (NOW + Duration::days(5), NOW + Duration::days(10)),
    };
    params.is_ca = match (ca.authority, ca.length) {
        (false, _) => IsCa::ExplicitNoCa,
        (true, None) => IsCa::Ca(BasicConstraints::Unconstrained),
        (true, Some(length)) => IsCa::Ca(BasicConstraints::Constrained(length)),
    };
    params.key_usages = match ca.usage {
        Usage::Unsaid => Vec::new(),
        Usage::Signs => vec![KeyUsagePurpose::KeyCertSign],
        Usage::SignsNot => vec![KeyUsagePurpose::DigitalSignature],
    };
    params.extended_key_usages = ca.extended.to_vec();
    params.use_authority_key_identifier_extension = ca.says_key;
    if let Some((tag, host)) = ca.constraint {
        params.custom_extensions.push(uri_constraint(tag, host));
    }
    params
}

/// NameConstraints with one URI (RFC 5280, 4.2.1.10).
fn uri_constraint(tag: u8, host: &str) -> CustomExtension {
    let value =
        |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).expect("short")], content].concat();
    let subtree = value(0x30, &value(0x86, host.as_bytes()));
    let mut extension =
        CustomExtension::from_oid_content(&[2, 5, 29, 30], value(0x30, &value(tag, &subtree)));
    extension.set_criticality(true);
    extension
}

/// A CA with its certificate in PEM.
pub(super) struct Made {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Made {
    pub(super) fn certificate(&self) -> &str {
        &self.pem
    }

    pub(super) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    fn root(name: &str, ca: &Ca) -> Self {
        let (params, key) = (params(name, ca), KeyPair::generate().expect("a key"));
        Self { pem: params.self_signed(&key).expect("a root").pem(), issuer: Issuer::new(params, key) }
    }

    fn below(&self, name: &str, ca: &Ca) -> Self {
        let (params, key) = (params(name, ca), KeyPair::generate().expect("a key"));
        let pem = params.signed_by(&key, &self.issuer).expect("a CA").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, names: Vec<SanType>, ca: &Ca) -> String {
        let mut params = params("leaf", ca);
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        params.signed_by(&key, &self.issuer).expect("a leaf").pem()
    }
}

const SOUND: Ca = Ca {
    authority: true,
    length: None,
    usage: Usage::Signs,
    when: When::Now,
    says_key: true,
    extended: &[],
    constraint: None,
};

/// A world as certificates: the CA that signs leaves, what is shown beside them, and what is trusted.
pub(super) fn make(world: &World) -> (Made, String, String) {
    let root = Made::root("root", &world.root);
    let other = Made::root("root", &SOUND);
    let intermediate = root.below("intermediate", &world.intermediate);
    let signer = world.below.as_ref().map(|ca| intermediate.below("below", ca));
    let own = match &signer {
        Some(below) => vec![below.pem.clone(), intermediate.pem.clone()],
        None => vec![intermediate.pem.clone()],
    };
    let trusted = match world.trusted {
        Trusted::Own => root.pem.clone(),
        Trusted::OtherOfTheName => other.pem.clone(),
        Trusted::OwnThenOther => root.pem.clone() + &other.pem,
        Trusted::OtherThenOwn => other.pem.clone() + &root.pem,
        Trusted::Elsewhere => Made::root("elsewhere", &SOUND).pem,
        Trusted::Intermediate => intermediate.pem.clone(),
    };
    let another = || other.below("intermediate", &world.intermediate).pem;
    let shown: Vec<String> = match world.shown {
        Shown::Whole => own.iter().cloned().chain([root.pem.clone()]).collect(),
        Shown::Reversed => std::iter::once(root.pem.clone()).chain(own.iter().rev().cloned()).collect(),
        Shown::WithoutRoot => own,
        Shown::RootAlone => vec![root.pem.clone()],
        Shown::OfAnother => vec![another(), other.pem.clone()],
        Shown::AnotherOfTheNameFirst => {
            std::iter::once(another()).chain(own).chain([root.pem.clone()]).collect()
        }
    };
    (signer.unwrap_or(intermediate), shown.concat(), trusted)
}

fn read(pem: &str) -> Vec<Certificate> {
    Certificate::read_all(pem, Path::new("x.pem")).expect("certificates")
}

/// Judges a workload of a world, as we do and as openssl does: that they agree is what every test here wants.
fn judged(dir: &Path, world: &World) -> Result<(), Distrust> {
    let roots = dir.join("roots.pem");
    let (signer, shown, trusted) = make(world);
    std::fs::write(&roots, &trusted).expect("a file");
    let uri = SanType::URI(SPIFFE.try_into().expect("a URI"));
    let leaf = signer.leaf(vec![uri], &Ca { extended: &[SERVER, CLIENT], ..SOUND });
    let (theirs, said) = accepts(dir, &roots, &(leaf + &shown), NOW);
    let key = dir.join("key.pem");
    std::fs::write(&key, signer.issuer.key().serialize_pem()).expect("a file");
    let key = CaKey::read(&key).expect("a key");
    let bundle = Bundle::new(signer.pem.clone(), key, trusted, shown);
    let side = Side::of("cluster1", "cluster.local", &bundle, NOW).expect("a side");
    let ours = side.accepts(&side, NOW);
    assert_eq!(ours.is_ok(), theirs, "we say {ours:?}, openssl {said}: {world:?}");
    ours
}

#[test]
fn openssl_accepts_a_workload_of_a_cluster_where_we_say_so_and_nowhere_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let accepted = RefCell::new(0);
    let judge = |world| {
        *accepted.borrow_mut() += usize::from(judged(dir.path(), &world).is_ok());
        Ok(())
    };
    runner.run(&world(), judge).expect("we agree");
    assert!((30..270).contains(&accepted.into_inner()), "nearly all worlds are alike");
}

#[test]
fn each_reason_is_given_for_what_is_wrong_and_openssl_refuses_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let below = Ca { length: Some(0), ..SOUND };
    let sound =
        World { root: SOUND, intermediate: below, below: None, shown: Shown::Whole, trusted: Trusted::Own };
    let root = |root| World { root, ..sound };
    let intermediate = |intermediate| World { intermediate, ..sound };
    let untold = World { trusted: Trusted::OtherThenOwn, ..intermediate(Ca { says_key: false, ..below }) };
    let told = World { trusted: Trusted::OtherThenOwn, ..sound };
    let other = Some((PERMITTED, "other.example"));
    for (wanted, world) in [
        ("accepted", sound),
        ("accepted", told),
        ("accepted", World { shown: Shown::WithoutRoot, ..sound }),
        ("accepted", intermediate(Ca { constraint: Some((PERMITTED, "cluster.local")), ..below })),
        ("no-path", World { trusted: Trusted::Elsewhere, ..sound }),
        ("no-path", World { shown: Shown::RootAlone, ..sound }),
        ("other-key", World { trusted: Trusted::OtherOfTheName, ..sound }),
        ("other-key", World { shown: Shown::OfAnother, ..sound }),
        ("ambiguous", untold),
        ("expired", root(Ca { when: When::Past, ..SOUND })),
        ("expired", intermediate(Ca { when: When::Past, ..below })),
        ("not-yet-valid", root(Ca { when: When::Future, ..SOUND })),
        ("not-yet-valid", intermediate(Ca { when: When::Future, ..below })),
        ("path-length", root(Ca { length: Some(0), ..SOUND })),
        ("path-length", World { below: Some(below), ..sound }),
        ("not-a-ca", root(Ca { authority: false, ..SOUND })),
        ("not-a-ca", intermediate(Ca { authority: false, ..below })),
        ("key-usage", root(Ca { usage: Usage::SignsNot, ..SOUND })),
        ("key-usage", intermediate(Ca { usage: Usage::SignsNot, ..below })),
        ("extended-key-usage", root(Ca { extended: &[SERVER], ..SOUND })),
        ("extended-key-usage", intermediate(Ca { extended: &[SERVER], ..below })),
        ("name-constraint", intermediate(Ca { constraint: other, ..below })),
        ("name-constraint", root(Ca { constraint: Some((EXCLUDED, "cluster.local")), ..SOUND })),
        ("not-a-root", World { trusted: Trusted::Intermediate, ..sound }),
    ] {
        let result = judged(dir.path(), &world);
        let word = result.as_ref().map_or_else(Distrust::word, |()| "accepted");
        assert_eq!(word, wanted, "{result:?}: {world:?}");
    }
}

#[test]
fn a_leaf_that_is_spoiled_itself_is_judged_as_openssl_judges_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let roots = dir.path().join("roots.pem");
    let root = Made::root("root", &SOUND);
    let intermediate = root.below("intermediate", &Ca { length: Some(0), ..SOUND });
    std::fs::write(&roots, &root.pem).expect("a file");
    let shown = intermediate.pem.clone() + &root.pem;
    let usages: [&[ExtendedKeyUsagePurpose]; 5] =
        [&[], &[SERVER, CLIENT], &[SERVER], &[CLIENT], &[ExtendedKeyUsagePurpose::CodeSigning]];
    let mut yes = 0;
    for when in [When::Now, When::Past, When::Future] {
        for extended in usages {
            for says_key in [true, false] {
                let leaf = intermediate.leaf(Vec::new(), &Ca { when, extended, says_key, ..SOUND });
                let (theirs, said) = accepts(dir.path(), &roots, &format!("{leaf}{shown}"), NOW);
                let ours = judge(&read(&leaf)[0], &read(&shown), &read(&root.pem), NOW);
                assert_eq!(ours.is_ok(), theirs, "{when:?} {extended:?}: {ours:?}, openssl {said}");
                yes += usize::from(theirs);
            }
        }
    }
    assert_eq!(yes, 4, "only what holds now and is for clients and servers");
}

/// A certificate with one bit of its DER turned, in PEM.
fn flipped(pem: &str, bit: usize) -> String {
    let mut der = read(pem)[0].der().to_vec();
    der[bit / 8] ^= 1 << (bit % 8);
    let text = Base64::encode_string(&der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("text")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[test]
fn no_turned_bit_of_an_intermediate_is_accepted_or_a_panic() {
    let root = Made::root("root", &SOUND);
    let intermediate = root.below("intermediate", &Ca { length: Some(0), ..SOUND });
    let leaf = read(&intermediate.leaf(Vec::new(), &SOUND)).remove(0);
    let anchors = read(&root.pem);
    assert_eq!(judge(&leaf, &read(&intermediate.pem), &anchors, NOW), Ok(()));
    let bits = read(&intermediate.pem)[0].der().len() * 8;
    let (mut unread, mut refused) = (0, 0);
    for bit in 0..bits {
        match Certificate::read_all(&flipped(&intermediate.pem, bit), Path::new("x.pem")) {
            Err(_) => unread += 1,
            Ok(shown) => {
                let result = judge(&leaf, &shown, &anchors, NOW);
                assert!(result.is_err(), "bit {bit} of {bits} may be turned");
                refused += 1;
            }
        }
    }
    assert!(unread > 100 && refused > 100, "{unread} unread, {refused} refused");
}
