//! XML-RPC text, both ways; pure.
//!
//! Reading is as liberal as Supervisor's own reader is to its many clients: `<i4>` and `<int>`, untyped `<value>`s, absent
//! `<params>`, base64 that is decoded to a string, numbers as Python's `int()` takes them; attributes, comments, processing
//! instructions and a declared encoding are passed over, the text is UTF-8. It is strict where an attacker would begin: no
//! DOCTYPE and so no entities of anybody's own, a bound on depth and on the number of values; and it works on a stack of its
//! own, so that no nesting exhausts ours. Writing gives what Python's `xmlrpc.client` writes, byte for byte, because there are
//! clients that read answers with regular expressions.
//!
//! What a method is and what it does is not known here.

use base64::Engine;
use base64::engine::general_purpose::GeneralPurposeConfig;
use base64::engine::{DecodePaddingMode, GeneralPurpose};
use quick_xml::Reader;
use quick_xml::events::Event;
use std::fmt::Write;

/// A value on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Written at most 32 bits wide, as the protocol wants it; what is beyond is capped.
    Int(i64),
    Bool(bool),
    Text(String),
    Double(f64),
    Array(Vec<Value>),
    /// Members in the order in which they are written.
    Struct(Vec<(String, Value)>),
    /// `<nil/>`, which some clients send; never written.
    Nil,
}

/// What somebody wants to have called.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: String,
    pub params: Vec<Value>,
}

/// Elements within each other. An array within an array takes three.
const MAX_DEPTH: usize = 64;
/// Values in one call; eight bytes of text make one.
const MAX_VALUES: usize = 65_536;

impl Value {
    pub fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    pub fn structure<const N: usize>(members: [(&str, Value); N]) -> Value {
        Value::Struct(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The member of that name of a struct.
    pub fn member(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct(members) => members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value),
            Value::Int(_) | Value::Bool(_) | Value::Text(_) | Value::Double(_) | Value::Array(_) | Value::Nil => None,
        }
    }

    /// About how many bytes it takes when written.
    pub fn size(&self) -> usize {
        match self {
            Value::Int(_) | Value::Bool(_) | Value::Double(_) | Value::Nil => 40,
            Value::Text(text) => 40 + text.len(),
            Value::Array(values) => 64 + values.iter().map(Value::size).sum::<usize>(),
            Value::Struct(members) => 40 + members.iter().map(|(name, value)| 45 + name.len() + value.size()).sum::<usize>(),
        }
    }
}

// ---- reading ----

/// An element that has begun.
struct Open {
    tag: Tag,
    /// Its own text so far: it comes in pieces, between references and comments.
    text: String,
    held: Held,
}

/// What an element's children have left in it.
#[derive(Default)]
struct Held {
    values: Vec<Value>,
    members: Vec<(String, Value)>,
    name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tag {
    MethodName,
    Params,
    Param,
    Value,
    Int,
    Boolean,
    String,
    Double,
    Base64,
    Nil,
    Array,
    Data,
    Struct,
    Member,
    Name,
    /// `methodCall`, and whatever we do not know: a type of a client's own reads as its text.
    Other,
}

impl Tag {
    fn of(name: &str) -> Tag {
        match name {
            "methodName" => Tag::MethodName,
            "params" => Tag::Params,
            "param" => Tag::Param,
            "value" => Tag::Value,
            "int" | "i4" | "i8" => Tag::Int,
            "boolean" => Tag::Boolean,
            "string" | "dateTime.iso8601" => Tag::String,
            "double" => Tag::Double,
            "base64" => Tag::Base64,
            "nil" => Tag::Nil,
            "array" => Tag::Array,
            "data" => Tag::Data,
            "struct" => Tag::Struct,
            "member" => Tag::Member,
            "name" => Tag::Name,
            _ => Tag::Other,
        }
    }
}

/// Reads a call.
///
/// # Errors
/// In words, what is wrong with the text.
pub fn read(body: &[u8]) -> Result<Call, String> {
    let body = std::str::from_utf8(body).map_err(|error| format!("it is not UTF-8 (byte {})", error.valid_up_to()))?;
    let mut reader = Reader::from_str(body.strip_prefix('\u{feff}').unwrap_or(body));
    reader.config_mut().check_comments = false;
    let mut stack: Vec<Open> = Vec::new();
    let mut found = Found { method: None, params: None, values: 0, begun: false };
    loop {
        let event = reader.read_event().map_err(|error| format!("it is no XML: {error} (byte {})", reader.error_position()))?;
        match event {
            Event::Start(start) => {
                found.open(&mut stack, start.name().as_ref())?;
            }
            Event::Empty(start) => {
                found.open(&mut stack, start.name().as_ref())?;
                found.close(&mut stack)?;
            }
            Event::End(_) => found.close(&mut stack)?,
            Event::Text(text) => add(&mut stack, &text.xml10_content())?,
            Event::CData(text) => add(&mut stack, &text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let name: &str = &reference;
                let known = match name {
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "amp" => Some('&'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => reference.resolve_char_ref().ok().flatten().filter(|c| is_xml(*c)),
                };
                let known = known.ok_or_else(|| format!("it uses &{}; which nobody has defined", shortened(name)))?;
                add(&mut stack, known.encode_utf8(&mut [0; 4]))?;
            }
            Event::DocType(_) => return Err("it has a DOCTYPE, which is not taken".to_owned()),
            Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
            Event::Eof => break,
        }
    }
    if !stack.is_empty() {
        return Err("it ends within an element".to_owned());
    }
    match found.method {
        Some(method) if !method.is_empty() => Ok(Call { method, params: found.params.unwrap_or_default() }),
        Some(_) | None => Err("it names no method".to_owned()),
    }
}

fn add(stack: &mut [Open], text: &str) -> Result<(), String> {
    match stack.last_mut() {
        Some(open) => open.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("it has text outside of its element".to_owned()),
    }
    Ok(())
}

/// What the whole text has said so far.
struct Found {
    method: Option<String>,
    params: Option<Vec<Value>>,
    values: usize,
    begun: bool,
}

impl Found {
    fn open(&mut self, stack: &mut Vec<Open>, name: &str) -> Result<(), String> {
        if stack.len() >= MAX_DEPTH {
            return Err(format!("its elements are nested deeper than {MAX_DEPTH}"));
        }
        if stack.is_empty() && std::mem::replace(&mut self.begun, true) {
            return Err("it has more than one outermost element".to_owned());
        }
        let tag = Tag::of(name);
        if tag == Tag::Value {
            self.values += 1;
            if self.values > MAX_VALUES {
                return Err(format!("it has more than {MAX_VALUES} values"));
            }
        }
        stack.push(Open { tag, text: String::new(), held: Held::default() });
        Ok(())
    }

    fn close(&mut self, stack: &mut Vec<Open>) -> Result<(), String> {
        let Some(Open { tag, text, held }) = stack.pop() else { return Err("it ends an element that never began".to_owned()) };
        let Held { values, members, name } = held;
        let made = match tag {
            Tag::MethodName => {
                self.method = Some(text);
                return Ok(());
            }
            Tag::Params => {
                self.params = Some(values);
                return Ok(());
            }
            Tag::Name => {
                if let Some(parent) = stack.last_mut() {
                    parent.held.name = Some(text);
                }
                return Ok(());
            }
            Tag::Member => {
                let (Some(name), Some(value)) = (name, values.into_iter().next()) else {
                    return Err("a member of a struct lacks its name or value".to_owned());
                };
                if let Some(parent) = stack.last_mut() {
                    parent.held.members.push((name, value));
                }
                return Ok(());
            }
            Tag::Value => values.into_iter().next().unwrap_or(Value::Text(text)),
            Tag::Param => values.into_iter().next().ok_or("a param has no value")?,
            Tag::Int => Value::Int(int(&text).ok_or_else(|| format!("found {:?}, expected a whole number", shortened(&text)))?),
            Tag::Boolean => Value::Bool(text == "1"),
            Tag::String | Tag::Other => Value::Text(text),
            Tag::Double => Value::Double(text.trim().parse().map_err(|_| format!("found {:?}, expected a number", shortened(&text)))?),
            Tag::Base64 => Value::Text(base64(&text)?),
            Tag::Nil => Value::Nil,
            Tag::Data => Value::Array(values),
            Tag::Array => values.into_iter().next().filter(|value| matches!(value, Value::Array(_))).ok_or("an array has no data")?,
            Tag::Struct => Value::Struct(members),
        };
        if let Some(parent) = stack.last_mut() {
            parent.held.values.push(made);
        }
        Ok(())
    }
}

/// As Python's `int()`: white space around it, a sign, single underscores between digits. Capped to 64 bits.
pub fn int(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let mut number = 0_i64;
    for digit in digits.chars().filter(|c| *c != '_') {
        let digit = i64::from(digit.to_digit(10)?);
        number = number.saturating_mul(10).saturating_add(digit);
    }
    Some(if negative { -number } else { number })
}

/// Base64 as liberal as Python's: what is not of its alphabet is passed over.
fn base64(text: &str) -> Result<String, String> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    let clean: Vec<u8> = text.bytes().filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')).collect();
    let bytes = engine.decode(clean).map_err(|error| format!("its base64 is none: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "its base64 is no text in UTF-8".to_owned())
}

/// What XML 1.0 allows in a document.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn shortened(text: &str) -> String {
    if text.chars().count() > 40 { text.chars().take(40).chain(['…']).collect() } else { text.to_owned() }
}

// ---- writing ----

/// The answer that brings `value`.
pub fn answer(value: &Value) -> String {
    let mut out = String::with_capacity(128 + value.size());
    out.push_str("<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n");
    write_value(&mut out, value);
    out.push_str("</param>\n</params>\n</methodResponse>\n");
    out
}

/// The answer that brings a fault.
pub fn fault(code: i64, text: &str) -> String {
    let mut out = String::from("<?xml version='1.0'?>\n<methodResponse>\n<fault>\n");
    write_value(&mut out, &Value::structure([("faultCode", Value::Int(code)), ("faultString", Value::text(text))]));
    out.push_str("</fault>\n</methodResponse>\n");
    out
}

/// Recursion is safe: what is written is of our own making, or as deep as what we read.
fn write_value(out: &mut String, value: &Value) {
    out.push_str("<value>");
    match value {
        Value::Int(number) => {
            let number = (*number).clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            write!(out, "<int>{number}</int>").expect("a String takes all");
        }
        Value::Bool(truth) => out.push_str(if *truth { "<boolean>1</boolean>" } else { "<boolean>0</boolean>" }),
        Value::Text(text) => {
            out.push_str("<string>");
            escape(out, text);
            out.push_str("</string>");
        }
        // With a point, as Python's repr has it.
        Value::Double(number) => write!(out, "<double>{number:?}</double>").expect("a String takes all"),
        Value::Array(values) => {
            out.push_str("<array><data>\n");
            values.iter().for_each(|value| write_value(out, value));
            out.push_str("</data></array>");
        }
        Value::Struct(members) => {
            out.push_str("<struct>\n");
            for (name, value) in members {
                out.push_str("<member>\n<name>");
                escape(out, name);
                out.push_str("</name>\n");
                write_value(out, value);
                out.push_str("</member>\n");
            }
            out.push_str("</struct>");
        }
        Value::Nil => out.push_str("<nil/>"),
    }
    out.push_str("</value>\n");
}

/// Supervisor writes control characters of a log as they are, and its clients then cannot read the answer. XML has no way to
/// say them, so they become U+FFFD.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if is_xml(c) => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rng::Rng;

    fn call(params: &str) -> Result<Call, String> {
        read(format!("<?xml version='1.0'?>\n<methodCall>\n<methodName>m</methodName>\n{params}</methodCall>\n").as_bytes())
    }

    fn value(text: &str) -> Value {
        let mut call = call(&format!("<params>\n<param>\n{text}\n</param>\n</params>\n")).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(call.params.len(), 1);
        call.params.remove(0)
    }

    #[test]
    fn every_way_in_which_clients_write_values_is_read() {
        for (text, expected) in [
            ("<value><int>5</int></value>", Value::Int(5)),
            ("<value>\n  <i4> -5 </i4>\n</value>", Value::Int(-5)),
            ("<value><int>1_000</int></value>", Value::Int(1_000)),
            ("<value><i8>99999999999999999999</i8></value>", Value::Int(i64::MAX)),
            ("<value><boolean>1</boolean></value>", Value::Bool(true)),
            ("<value><boolean>true</boolean></value>", Value::Bool(false)),
            ("<value><string>a &lt;&amp;&gt; b</string></value>", Value::text("a <&> b")),
            ("<value><string>&#228;&#xe4;ä</string></value>", Value::text("äää")),
            ("<value><string/></value>", Value::text("")),
            ("<value/>", Value::text("")),
            ("<value> bare </value>", Value::text(" bare ")),
            ("<value><string>a<![CDATA[<b>&amp;]]>c</string></value>", Value::text("a<b>&amp;c")),
            ("<value><string>one<!-- two -->three</string></value>", Value::text("onethree")),
            ("<value><string>a\r\nb\rc</string></value>", Value::text("a\nb\nc")),
            ("<value><double>1.5</double></value>", Value::Double(1.5)),
            ("<value><base64>\ngrOk\n</base64></value>".replace("grOk", "Z3LDpA==").leak(), Value::text("grä")),
            ("<value><base64>Z3LDpA</base64></value>", Value::text("grä")),
            ("<value><dateTime.iso8601>20261125T03:15:00</dateTime.iso8601></value>", Value::text("20261125T03:15:00")),
            ("<value><nil/></value>", Value::Nil),
            ("<value><strange>x</strange></value>", Value::text("x")),
            ("<value><array><data/></array></value>", Value::Array(vec![])),
            (
                "<value><array>\n<data>\n<value>a</value> <value><int>1</int></value></data></array></value>",
                Value::Array(vec![Value::text("a"), Value::Int(1)]),
            ),
            (
                "<value><struct> <member><name>k</name><value><array><data><value>v</value></data></array></value></member></struct></value>",
                Value::structure([("k", Value::Array(vec![Value::text("v")]))]),
            ),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn absent_params_a_byte_order_mark_and_a_declared_encoding_do_no_harm() {
        assert_eq!(call("").expect("read").params, []);
        assert_eq!(call("<params/>").expect("read").params, []);
        let text = "\u{feff}<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><methodCall><methodName>ä</methodName></methodCall>";
        assert_eq!(read(text.as_bytes()).expect("read").method, "ä");
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_words() {
        let deep = format!("{}x{}", "<a>".repeat(65), "</a>".repeat(65));
        let nested = |depth| format!("{}{}", "<value><array><data>".repeat(depth), "</data></array></value>".repeat(depth));
        let many = format!("<params><param><value><array><data>{}</data></array></value></param></params>", "<value/>".repeat(70_000));
        for (text, words) in [
            ("", "no method"),
            ("junk", "text outside"),
            ("<methodCall/>", "no method"),
            ("<methodCall><methodName/></methodCall>", "no method"),
            ("<methodCall><methodName>m</methodName>", "ends within"),
            ("<methodCall><methodName>m</methodNam></methodCall>", "no XML"),
            ("</methodCall>", "no XML"),
            ("<a/><b/>", "more than one"),
            ("<a>&laugh;</a>", "&laugh;"),
            ("<a>&#0;</a>", "&#0;"),
            ("<a>&#1;</a>", "&#1;"),
            ("<a>& b</a>", "no XML"),
            ("<!DOCTYPE a [<!ENTITY l \"ha\"><!ENTITY m \"&l;&l;\">]><a>&m;</a>", "DOCTYPE"),
            ("<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>", "DOCTYPE"),
            ("<params><param><value><int>five</int></value></param></params>", "\"five\""),
            ("<params><param><value><int/></value></param></params>", "whole number"),
            ("<params><param><value><double>x</double></value></param></params>", "a number"),
            ("<params><param/></params>", "no value"),
            ("<params><param><value><array/></value></param></params>", "no data"),
            ("<params><param><value><struct><member/></struct></value></param></params>", "lacks"),
            ("<params><param><value><base64>/w==</base64></value></param></params>", "UTF-8"),
            (&deep, "deeper than 64"),
            (&nested(10_000), "deeper than 64"),
            (&many, "more than 65536 values"),
        ] {
            let why = read(text.as_bytes()).expect_err(&text[..text.len().min(100)]);
            assert!(why.contains(words), "{}: {why}", &text[..text.len().min(100)]);
        }
        assert!(read(b"<a>\xff</a>").expect_err("no UTF-8").contains("not UTF-8"));
        assert!(call(&format!("<params><param>{}</param></params>", nested(15))).is_ok());
    }

    /// Three kinds of noise: bytes, pieces of the grammar in any order, and a good call with some bytes changed.
    #[test]
    fn noise_never_panics() {
        let mut rng = Rng::seeded(7);
        let mut below = |n: usize| usize::try_from(rng.next_u64() % n as u64).expect("small");
        let good =
            b"<?xml version='1.0'?><methodCall><methodName>supervisor.startProcess</methodName><params><param><value><string>a&amp;b\
            </string></value></param><param><value><struct><member><name>x</name><value><array><data><value><int>1</int></value></data>\
            </array></value></member></struct></value></param></params></methodCall>";
        let pieces = [
            "<value>",
            "</value>",
            "<array>",
            "<data>",
            "</data>",
            "</array>",
            "<struct>",
            "</struct>",
            "<member>",
            "</member>",
            "<name>",
            "</name>",
            "<int>",
            "</int>",
            "1",
            "&#x41;",
            "&amp;",
            "&",
            ";",
            "<![CDATA[",
            "]]>",
            "<!--",
            "-->",
            "<?",
            "?>",
            "<",
            ">",
            "/",
            "<base64>",
            "</base64>",
            "<params>",
            "</params>",
            "<param>",
            "</param>",
            "<!DOCTYPE",
            "ä",
            "\0",
            "<value/>",
            "<nil/>",
            "\r",
        ];
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..below(60)).map(|_| below(256) as u8).collect();
            let _ = read(&bytes);
            let soup: String = (0..below(60)).map(|_| pieces[below(pieces.len())]).collect();
            let _ = read(soup.as_bytes());
            let mut torn = good.to_vec();
            for _ in 0..=below(4) {
                let at = below(torn.len());
                match below(3) {
                    0 => torn[at] = below(256) as u8,
                    1 if torn.len() > 1 => drop(torn.remove(at)),
                    _ => torn.truncate(at.max(1)),
                }
            }
            let _ = read(&torn);
        }
    }

    #[test]
    fn answers_are_pythons_to_the_byte() {
        let value = Value::structure([
            ("b", Value::Bool(true)),
            ("a", Value::Array(vec![Value::Int(1), Value::text("x<&>\""), Value::Array(vec![])])),
            ("s", Value::structure([])),
            ("d", Value::Double(1.5)),
        ]);
        let python = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><struct>\n<member>\n<name>b</name>\n\
            <value><boolean>1</boolean></value>\n</member>\n<member>\n<name>a</name>\n<value><array><data>\n<value><int>1</int></value>\n\
            <value><string>x&lt;&amp;&gt;\"</string></value>\n<value><array><data>\n</data></array></value>\n</data></array></value>\n\
            </member>\n<member>\n<name>s</name>\n<value><struct>\n</struct></value>\n</member>\n<member>\n<name>d</name>\n\
            <value><double>1.5</double></value>\n</member>\n</struct></value>\n</param>\n</params>\n</methodResponse>\n";
        assert_eq!(answer(&value), python);
        let python = "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n\
            <value><int>10</int></value>\n</member>\n<member>\n<name>faultString</name>\n<value><string>BAD_NAME: x</string></value>\n\
            </member>\n</struct></value>\n</fault>\n</methodResponse>\n";
        assert_eq!(fault(10, "BAD_NAME: x"), python);
    }

    #[test]
    fn numbers_are_capped_and_control_characters_replaced() {
        assert!(answer(&Value::Int(3_000_000_000)).contains("<int>2147483647</int>"));
        assert!(answer(&Value::Int(i64::MIN)).contains("<int>-2147483648</int>"));
        assert!(answer(&Value::text("\x1b[31mred\x1b[0m\tä")).contains("<string>\u{fffd}[31mred\u{fffd}[0m\tä</string>"));
    }
}
