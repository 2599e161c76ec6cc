//! The report as a page: the text, with its lines coloured by kind.

use std::fmt::Write;

use html_escape::encode_text;

use crate::report::Report;
use crate::text;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
    <title>Plan of the NixOS machines</title>\n\
    <style>body{font:15px/1.5 system-ui;margin:2em auto;max-width:70em;padding:0 1em}pre{white-space:pre-wrap}\
    b{color:light-dark(#0550ae,#79c0ff)}ins{color:light-dark(#116329,#56d364);text-decoration:none}\
    del{color:light-dark(#82071e,#ff7b72);text-decoration:none}mark{background:none;color:light-dark(#9a6700,#e3b341)}</style>\n\
    <h1>Plan of the NixOS machines</h1>\n<pre>\n";

/// The report as a page.
pub fn render(report: &Report) -> String {
    let mut page = HEAD.to_owned();
    for line in text::render(report).lines() {
        let escaped = encode_text(line);
        let element = match line.trim_start().as_bytes() {
            [b'+', b' ', ..] => "ins",
            [b'-' | b'!', b' ', ..] => "del",
            [b'~' | b'$', b' ', ..] => "mark",
            _ if line.starts_with(' ') => "span",
            _ => "b",
        };
        let _ = writeln!(page, "<{element}>{escaped}</{element}>");
    }
    page + "</pre>\n</html>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_report_is_markup() {
        let mut hostile = text::tests::example();
        hostile.summary = "<b>&amp;".into();
        assert!(render(&hostile).contains("<b>&lt;b&gt;&amp;amp;</b>\n"));
        let page = render(&text::tests::example());
        assert!(page.contains("<ins>  + cores: 2</ins>\n"), "{page}");
        assert!(page.contains("<mark>  ~ memory: 2048 -&gt; 4096</mark>\n"));
        assert!(page.contains("<del>  ! two</del>\n"));
        assert!(page.ends_with("</pre>\n</html>\n"));
    }
}
