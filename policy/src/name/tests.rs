use super::*;

fn service(text: &str) -> Service {
    text.parse().unwrap()
}

#[test]
fn a_label_is_what_kubernetes_says() {
    let longest = "a".repeat(63);
    for good in ["a", "eu-1", "0", longest.as_str()] {
        assert_eq!(good.parse::<ClusterName>().unwrap().to_string(), good);
    }
    let too_long = "a".repeat(64);
    for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ü", too_long.as_str()] {
        assert_eq!(bad.parse::<ClusterName>(), Err(NameError::NotALabel(bad.to_owned())));
    }
}

#[test]
fn every_form_of_an_authority_names_the_same_service() {
    let payments: Namespace = "payments".parse().unwrap();
    for form in [
        "ledger",
        "ledger:8080",
        "ledger.payments",
        "ledger.payments.svc",
        "LEDGER.payments.svc.cluster.local",
        "ledger.payments.svc.cluster.local.:8080",
    ] {
        assert_eq!(Service::from_authority(form, &payments).unwrap(), service("ledger.payments"), "{form}");
    }
    for foreign in ["", "www.example.com.", "a.b.c", "[::1]:80", "10.0.0.1"] {
        assert!(Service::from_authority(foreign, &payments).is_err(), "{foreign}");
    }
}

#[test]
fn an_sni_names_its_service_and_nothing_else_does() {
    let sni = "outbound_.8080_.v1_.ledger.payments.svc.cluster.local";
    let port = "8080".parse().unwrap();
    assert_eq!(Service::from_sni(sni).unwrap(), (service("ledger.payments"), port));
    for bad in [
        "",
        "ledger.payments.svc.cluster.local",
        "outbound_.8080_.ledger",
        "outbound_.1_._.example.com",
        "outbound_.0_._.a.b.svc.cluster.local",
    ] {
        assert!(Service::from_sni(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_identity_prints_as_it_was_read() {
    let text = "spiffe://cluster.local/ns/sample/sa/sleep";
    assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
    for bad in
        ["spiffe://cluster.local/ns/sample", "https://cluster.local/ns/a/sa/b", "spiffe://x/ns/a/sa/b/c", ""]
    {
        assert!(bad.parse::<Identity>().is_err(), "{bad}");
    }
}
