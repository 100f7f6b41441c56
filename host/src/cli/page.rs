//! The pages about findings, as they stand in `docs/findings`.

macro_rules! pages {
    ($($code:literal)*) => {
        const PAGES: &[(&str, &str)] =
            &[$(($code, include_str!(concat!("../../../docs/findings/", $code, ".md")))),*];
    };
}

pages! {
    "ISM001" "ISM002" "ISM003" "ISM004" "ISM005" "ISM006" "ISM007" "ISM008"
    "ISM009" "ISM010" "ISM011" "ISM012" "ISM013" "ISM014" "ISM015" "ISM016"
    "ISM017" "ISM018" "ISM019" "ISM020" "ISM021" "ISM022" "ISM023" "ISM024"
    "ISM025" "ISM026" "ISM027" "ISM028" "ISM029" "ISM030" "ISM031" "ISM032"
    "ISM033" "ISM034" "ISM035" "ISM036"
}

const _: () = assert!(PAGES.len() == policy::finding::Code::ALL.len(), "a page for each code");

/// The page about a code, in any case.
pub(super) fn about(code: &str) -> Option<&'static str> {
    PAGES.iter().find(|(found, _)| found.eq_ignore_ascii_case(code)).map(|(_, page)| *page)
}
