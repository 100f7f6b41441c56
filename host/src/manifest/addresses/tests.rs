use std::collections::HashMap;

use policy::mesh::Dns;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

fn names(range: &str) -> GlobalNames {
    GlobalNames { range: range.parse().unwrap(), dns: Dns::Proxy, egress: false }
}

fn service(number: usize) -> Service {
    format!("service-{number}.team-{}", number % 37).parse().unwrap()
}

/// What must hold of a book after every change of what there is.
struct Witness {
    names: GlobalNames,
    book: Book,
    wanted: BTreeSet<Service>,
    /// The first address that each service was seen with.
    first: HashMap<Service, Ipv4Addr>,
}

impl Witness {
    fn new(range: &str) -> Self {
        let (book, wanted) = (Book::default(), BTreeSet::new());
        Self { names: names(range), book, wanted, first: HashMap::new() }
    }

    /// Places what is wanted now, through the ConfigMap that clusters keep.
    fn turn(&mut self) {
        let kept = Book::read(&self.book.config_map()).unwrap();
        assert_eq!(kept, self.book, "a book comes out of its ConfigMap as it went in");
        self.book = kept.place(&self.names, &self.wanted).unwrap();
        let mut owners = HashMap::new();
        for service in &self.wanted {
            let address = self.book.get(service).unwrap();
            assert!(position(address, &self.names).is_some(), "{service} has {address}, out of the range");
            let other = owners.insert(address, service);
            assert!(other.is_none(), "{service} and {other:?} share {address}");
            let first = *self.first.entry(service.clone()).or_insert(address);
            assert_eq!(first, address, "{service} moved");
        }
    }
}

#[test]
fn ten_thousand_services_come_and_go_in_any_order_and_no_address_moves_or_is_shared() {
    let mut runner = TestRunner::new(Config { cases: 3, failure_persistence: None, ..Config::default() });
    let order = Just((0..10_000).collect::<Vec<usize>>()).prop_shuffle();
    let steps = (order.clone(), order, prop::collection::vec(300..2500usize, 10));
    let all = |(coming, going, steps): (Vec<usize>, Vec<usize>, Vec<usize>)| {
        let mut witness = Witness::new("240.0.0.0/16");
        let (mut coming, mut going) = (coming.into_iter(), going.into_iter());
        let mut turn = 0;
        while coming.len() > 0 || going.len() > 0 {
            let count = steps[turn % steps.len()];
            witness.wanted.extend(coming.by_ref().take(count).map(service));
            // What goes before it has come comes later, and stays.
            for number in going.by_ref().take(count / 2) {
                witness.wanted.remove(&service(number));
            }
            witness.turn();
            turn += 1;
        }
        // All of them come back, where they were.
        witness.wanted = (0..10_000).map(service).collect();
        witness.turn();
        assert_eq!(witness.first.len(), 10_000);
        Ok(())
    };
    runner.run(&steps, all).unwrap();
}

#[test]
fn a_full_range_takes_the_address_of_what_is_gone_and_never_that_of_what_is_there() {
    let mut witness = Witness::new("240.0.0.0/24");
    assert_eq!(witness.names.room(), 254);
    witness.wanted = (0..254).map(service).collect();
    witness.turn();
    witness.wanted = (10..264).map(service).collect();
    witness.turn();
    assert!((0..10).all(|number| witness.book.get(&service(number)).is_none()));
    witness.wanted.insert(service(1000));
    let error = witness.book.clone().place(&witness.names, &witness.wanted).unwrap_err().to_string();
    assert!(error.starts_with("240.0.0.0/24 has no address left for service-"), "{error}");
}

#[test]
fn an_address_is_a_matter_of_the_name_and_not_of_the_order() {
    let placed = |numbers: &[usize]| {
        let wanted: BTreeSet<Service> = numbers.iter().map(|number| service(*number)).collect();
        Book::default().place(&names("240.0.0.0/16"), &wanted).unwrap()
    };
    assert_eq!(placed(&[1, 2, 3]).get(&service(2)), placed(&[2]).get(&service(2)));
    // The same everywhere and for ever: it is in the caches of others.
    let ledger: Service = "ledger.payments".parse().unwrap();
    let book = Book::default().place(&names("240.0.0.0/16"), &BTreeSet::from([ledger.clone()])).unwrap();
    assert_eq!(book.get(&ledger).unwrap().to_string(), "240.0.86.34");
}

#[test]
fn the_first_and_the_last_address_of_a_range_are_nobodys() {
    let wanted: BTreeSet<Service> = (0..6).map(service).collect();
    let book = Book::default().place(&names("198.18.0.0/29"), &wanted).unwrap();
    let mut given: Vec<String> = book.iter().map(|(_, address)| address.to_string()).collect();
    given.sort();
    assert_eq!(given, (1..7).map(|last| format!("198.18.0.{last}")).collect::<Vec<_>>());
}

#[test]
fn another_range_gives_every_address_anew() {
    let wanted = BTreeSet::from([service(1)]);
    let old = Book::default().place(&names("240.0.0.0/16"), &wanted).unwrap();
    let new = old.place(&names("198.18.0.0/16"), &wanted).unwrap();
    assert!(new.get(&service(1)).unwrap().to_string().starts_with("198.18."));
}

#[test]
fn books_that_do_not_fit_together_are_refused() {
    let book = |entries: &[(&str, &str)]| {
        let data: BTreeMap<_, _> = entries.iter().copied().collect();
        Book::read(&json!({"data": data}))
    };
    let one = book(&[("a.x", "240.0.0.1"), ("b.x", "240.0.0.2")]).unwrap();
    let behind = book(&[("a.x", "240.0.0.1")]).unwrap();
    assert_eq!(behind.merge(&one).unwrap(), one);
    let moved = book(&[("a.x", "240.0.0.9")]).unwrap();
    let error = one.clone().merge(&moved).unwrap_err().to_string();
    assert!(
        error.starts_with("a.x has address 240.0.0.1 in one cluster and 240.0.0.9 in another"),
        "{error}"
    );
    let taken = book(&[("c.x", "240.0.0.2")]).unwrap();
    let error = one.merge(&taken).unwrap_err().to_string();
    assert!(error.starts_with("b.x and c.x both have address 240.0.0.2"), "{error}");
    for (key, value) in [("a", "240.0.0.1"), ("a.x", "240.0.0"), ("a.x", "fd00::1")] {
        let error = book(&[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(value), "{error}");
    }
}
