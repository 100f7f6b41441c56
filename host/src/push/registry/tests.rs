use super::onward;

#[test]
fn what_came_by_tls_goes_nowhere_without_it() {
    let tls = "https://r.example/v2/a/blobs/x";
    assert_eq!(onward(tls, "/v2/b?c=d").expect("on"), "https://r.example/v2/b?c=d");
    assert_eq!(onward(tls, "https://other.example/x").expect("on"), "https://other.example/x");
    assert!(onward(tls, "http://r.example/x").expect_err("no").to_string().contains("has no TLS"));
    for elsewhere in ["file:///etc/passwd", "ftp://r.example/x", "x", ""] {
        onward(tls, elsewhere).expect_err(elsewhere);
    }
    let plain = "http://127.0.0.1:5000/v2/";
    assert_eq!(onward(plain, "/v2/b").expect("on"), "http://127.0.0.1:5000/v2/b");
    assert_eq!(onward(plain, "http://127.0.0.1:5001/").expect("on"), "http://127.0.0.1:5001/");
}
