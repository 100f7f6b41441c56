//! For CI: JUnit's XML, as Jenkins, GitLab and GitHub's reporters read it.

use std::io;
use std::time::Duration;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::{Report, headline};
use crate::runner::{Failure, Job, Tested};

/// Why there is no XML.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report as XML")]
pub struct JunitError(#[from] io::Error);

type Xml = Writer<Vec<u8>>;

impl Report<'_> {
    /// The report as JUnit's XML.
    pub fn junit(&self) -> Result<String, JunitError> {
        let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
        xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let counts = self.numbers();
        let attributes = counts.iter().map(|(key, value)| (*key, value.as_str()));
        xml.create_element("testsuites")
            .with_attributes([("name", "isthmus test")].into_iter().chain(attributes))
            .write_inner_content(|xml| self.suites().iter().try_for_each(|suite| suite.element(xml)))?;
        let mut text = String::from_utf8_lossy(&xml.into_inner()).into_owned();
        text.push('\n');
        Ok(text)
    }

    fn element(&self, xml: &mut Xml) -> io::Result<()> {
        let Some(first) = self.jobs.first() else { return Ok(()) };
        let counts = self.numbers();
        let name = clean(&first.suite.suite.name);
        let file = clean(&first.suite.file.display().to_string());
        let named = [("name", name.as_str()), ("file", file.as_str())];
        let attributes = counts.iter().map(|(key, value)| (*key, value.as_str()));
        xml.create_element("testsuite")
            .with_attributes(named.into_iter().chain(attributes))
            .write_inner_content(|xml| {
                self.pairs().try_for_each(|(job, tested)| case(xml, job, tested.as_ref()))
            })?;
        Ok(())
    }

    /// The attributes that count, in the order of the schema.
    fn numbers(&self) -> [(&'static str, String); 5] {
        let failure =
            |tested: &Tested| tested.failure.as_ref().map(|failure| matches!(failure, Failure::Broken(_)));
        let count = |wanted| {
            self.tested.iter().flatten().filter(|tested| failure(tested) == Some(wanted)).count().to_string()
        };
        let took: Duration = self.tested.iter().flatten().map(|tested| tested.took).sum();
        [
            ("tests", self.jobs.len().to_string()),
            ("failures", count(false)),
            ("errors", count(true)),
            ("skipped", self.counts().not_run.to_string()),
            ("time", seconds(took)),
        ]
    }
}

fn case(xml: &mut Xml, job: &Job<'_>, tested: Option<&Tested>) -> io::Result<()> {
    let (name, suite) = (clean(&job.case.name.value), clean(&job.suite.suite.name));
    let (file, line) = (clean(&job.case.name.at.file), job.case.name.at.line.to_string());
    let time = seconds(tested.map(|tested| tested.took).unwrap_or_default());
    let element = xml.create_element("testcase").with_attributes([
        ("name", name.as_str()),
        ("classname", suite.as_str()),
        ("file", file.as_str()),
        ("line", line.as_str()),
        ("time", time.as_str()),
    ]);
    match tested.map(|tested| (tested, &tested.failure)) {
        Some((_, None)) => element.write_empty()?,
        None => element.write_inner_content(|xml| {
            let why = ("message", "a case before it had failed");
            xml.create_element("skipped").with_attribute(why).write_empty().map(|_| ())
        })?,
        Some((tested, Some(failure))) => element.write_inner_content(|xml| {
            let kind = if matches!(failure, Failure::Broken(_)) { "error" } else { "failure" };
            let message = clean(&headline(failure));
            let body = clean(&Report::failed(job, tested));
            xml.create_element(kind)
                .with_attributes([("message", message.as_str()), ("type", "isthmus")])
                .write_text_content(BytesText::new(&body))
                .map(|_| ())
        })?,
    };
    Ok(())
}

fn seconds(took: Duration) -> String {
    format!("{:.6}", took.as_secs_f64())
}

/// What XML 1.0 can hold: no control character but those of a text's layout can be written in it at all.
fn clean(text: &str) -> String {
    let holds = |c: char| matches!(c, '\t' | '\n' | '\r') || (c >= ' ' && c != '\u{fffe}' && c != '\u{ffff}');
    text.chars().map(|c| if holds(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}
