//! XML-RPC text, both ways, as a client needs it: a call is written, an answer is read. Pure.
//!
//! Read loosely, since servers differ: `<i4>` and `<int>`, a bare `<value>`, absent parameters, comments and CDATA. What is
//! no XML-RPC is an error in words, never a panic; nesting has a bound, so that no answer can eat the stack. Transport is
//! not here, and neither is what an answer means.

use quick_xml::events::Event;
use quick_xml::reader::Reader;
use std::collections::BTreeMap;

/// A value in a call or an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i64),
    Bool(bool),
    /// Also dates, doubles and base64, as they were written: no answer that we use has them.
    Text(String),
    Array(Vec<Value>),
    Struct(BTreeMap<String, Value>),
    Nil,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Value(Value),
    Fault { code: i64, text: String },
}

impl Value {
    /// The text, or nothing.
    pub fn text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            Value::Int(_) | Value::Bool(_) | Value::Array(_) | Value::Struct(_) | Value::Nil => "",
        }
    }

    /// The number; a boolean counts as 0 or 1.
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(n) => *n,
            Value::Bool(truth) => i64::from(*truth),
            Value::Text(_) | Value::Array(_) | Value::Struct(_) | Value::Nil => 0,
        }
    }

    /// The elements; none of what is no array.
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) => items,
            Value::Int(_) | Value::Bool(_) | Value::Text(_) | Value::Struct(_) | Value::Nil => &[],
        }
    }

    /// A member of a struct; `Nil` if there is none.
    pub fn at(&self, name: &str) -> &Value {
        match self {
            Value::Struct(members) => members.get(name).unwrap_or(&Value::Nil),
            Value::Int(_) | Value::Bool(_) | Value::Text(_) | Value::Array(_) | Value::Nil => &Value::Nil,
        }
    }
}

/// The body of a call.
pub fn call(method: &str, params: &[Value]) -> String {
    let mut xml = String::from("<?xml version='1.0'?>\n<methodCall>\n<methodName>");
    escape(method, &mut xml);
    xml.push_str("</methodName>\n<params>\n");
    for param in params {
        xml.push_str("<param>\n");
        write(param, &mut xml);
        xml.push_str("</param>\n");
    }
    xml.push_str("</params>\n</methodCall>\n");
    xml
}

fn write(value: &Value, xml: &mut String) {
    xml.push_str("<value>");
    match value {
        Value::Int(n) => xml.push_str(&format!("<int>{n}</int>")),
        Value::Bool(truth) => xml.push_str(&format!("<boolean>{}</boolean>", u8::from(*truth))),
        Value::Text(text) => {
            xml.push_str("<string>");
            escape(text, xml);
            xml.push_str("</string>");
        }
        Value::Array(items) => {
            xml.push_str("<array><data>\n");
            for item in items {
                write(item, xml);
            }
            xml.push_str("</data></array>");
        }
        Value::Struct(members) => {
            xml.push_str("<struct>\n");
            for (name, member) in members {
                xml.push_str("<member><name>");
                escape(name, xml);
                xml.push_str("</name>");
                write(member, xml);
                xml.push_str("</member>\n");
            }
            xml.push_str("</struct>");
        }
        Value::Nil => xml.push_str("<nil/>"),
    }
    xml.push_str("</value>\n");
}

fn escape(text: &str, xml: &mut String) {
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            // A reader turns a bare one into a line's end.
            '\r' => xml.push_str("&#13;"),
            c => xml.push(c),
        }
    }
}

/// Reads an answer. The error says what is wrong with it.
pub fn answer(xml: &str) -> Result<Answer, String> {
    let mut reader = Pull { reader: Reader::from_str(xml), ahead: None };
    reader.open("methodResponse")?;
    let answer = match reader.tag()?.as_str() {
        "params" => {
            reader.open("param")?;
            reader.open("value")?;
            Answer::Value(reader.value(0)?)
        }
        "fault" => {
            reader.open("value")?;
            let fault = reader.value(0)?;
            Answer::Fault { code: fault.at("faultCode").int(), text: fault.at("faultString").text().to_owned() }
        }
        other => return Err(format!("found <{other}>, expected <params> or <fault>")),
    };
    Ok(answer)
}

/// What a value is made of, without the noise.
#[derive(Debug)]
enum Piece {
    Open(String),
    Close,
    Text(String),
}

struct Pull<'a> {
    reader: Reader<&'a [u8]>,
    /// The end of an empty element, which is told as a beginning and an end.
    ahead: Option<Piece>,
}

impl Pull<'_> {
    fn next(&mut self) -> Result<Piece, String> {
        if let Some(piece) = self.ahead.take() {
            return Ok(piece);
        }
        loop {
            return match self.reader.read_event().map_err(|why| why.to_string())? {
                Event::Start(tag) => Ok(Piece::Open(tag.name().as_ref().to_owned())),
                Event::Empty(tag) => {
                    self.ahead = Some(Piece::Close);
                    Ok(Piece::Open(tag.name().as_ref().to_owned()))
                }
                Event::End(_) => Ok(Piece::Close),
                Event::Text(text) => Ok(Piece::Text(text.into_inner().into_owned())),
                Event::CData(text) => Ok(Piece::Text(text.into_inner().into_owned())),
                Event::GeneralRef(name) => match name.resolve_char_ref().map_err(|why| why.to_string())? {
                    Some(c) => Ok(Piece::Text(c.to_string())),
                    None => match quick_xml::escape::resolve_predefined_entity(&name) {
                        Some(text) => Ok(Piece::Text(text.to_owned())),
                        None => Err(format!("unknown entity &{};", &*name)),
                    },
                },
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => continue,
                Event::Eof => Err("it ends too early".to_owned()),
            };
        }
    }

    /// The next beginning or end; white space between is skipped.
    fn next_tag(&mut self) -> Result<Piece, String> {
        loop {
            match self.next()? {
                Piece::Text(text) if text.trim().is_empty() => {}
                Piece::Text(text) => return Err(format!("found {text:?}, expected an element")),
                tag => return Ok(tag),
            }
        }
    }

    fn tag(&mut self) -> Result<String, String> {
        match self.next_tag()? {
            Piece::Open(name) => Ok(name),
            Piece::Close | Piece::Text(_) => Err("found an end, expected an element".to_owned()),
        }
    }

    fn open(&mut self, name: &str) -> Result<(), String> {
        let found = self.tag()?;
        if found == name { Ok(()) } else { Err(format!("found <{found}>, expected <{name}>")) }
    }

    fn close(&mut self) -> Result<(), String> {
        match self.next_tag()? {
            Piece::Close => Ok(()),
            Piece::Open(name) => Err(format!("found <{name}>, expected an end")),
            Piece::Text(_) => unreachable!("next_tag skips text or refuses it"),
        }
    }

    /// Text up to the end of the element that is open.
    fn text(&mut self) -> Result<String, String> {
        let mut all = String::new();
        loop {
            match self.next()? {
                Piece::Text(text) => all.push_str(&text),
                Piece::Close => return Ok(all),
                Piece::Open(name) => return Err(format!("found <{name}> within text")),
            }
        }
    }

    /// The rest of a `<value>` that is open, with its end.
    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err(format!("it is nested more than {DEEPEST} deep"));
        }
        let mut bare = String::new();
        let kind = loop {
            match self.next()? {
                Piece::Text(text) => bare.push_str(&text),
                // Without a type it is a string, white space and all.
                Piece::Close => return Ok(Value::Text(bare)),
                Piece::Open(kind) => break kind,
            }
        };
        let value = match kind.as_str() {
            "int" | "i4" | "i8" => {
                let text = self.text()?;
                Value::Int(text.trim().parse().map_err(|_| format!("found {text:?}, expected a number"))?)
            }
            "boolean" => match self.text()?.trim() {
                "1" => Value::Bool(true),
                "0" => Value::Bool(false),
                other => return Err(format!("found {other:?}, expected 0 or 1")),
            },
            "nil" => {
                self.text()?;
                Value::Nil
            }
            "array" => self.array(depth)?,
            "struct" => self.members(depth)?,
            "string" | "double" | "dateTime.iso8601" | "base64" => Value::Text(self.text()?),
            other => return Err(format!("found <{other}>, expected a type of XML-RPC")),
        };
        self.close()?;
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.open("data")?;
        let mut items = Vec::new();
        loop {
            match self.next_tag()? {
                Piece::Open(name) if name == "value" => items.push(self.value(depth + 1)?),
                Piece::Open(name) => return Err(format!("found <{name}>, expected <value>")),
                Piece::Close => break,
                Piece::Text(_) => unreachable!("next_tag skips text or refuses it"),
            }
        }
        self.close()?;
        Ok(Value::Array(items))
    }

    fn members(&mut self, depth: usize) -> Result<Value, String> {
        let mut members = BTreeMap::new();
        loop {
            match self.next_tag()? {
                Piece::Open(name) if name == "member" => {
                    self.open("name")?;
                    let name = self.text()?;
                    self.open("value")?;
                    members.insert(name, self.value(depth + 1)?);
                    self.close()?;
                }
                Piece::Open(name) => return Err(format!("found <{name}>, expected <member>")),
                Piece::Close => return Ok(Value::Struct(members)),
                Piece::Text(_) => unreachable!("next_tag skips text or refuses it"),
            }
        }
    }
}

/// Supervisor's deepest answer has four levels.
const DEEPEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(inner: &str) -> Result<Value, String> {
        let xml = format!("<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n{inner}\n</param>\n</params>\n</methodResponse>\n");
        answer(&xml).map(|answer| match answer {
            Answer::Value(value) => value,
            Answer::Fault { code, text } => panic!("fault {code} {text}"),
        })
    }

    #[test]
    fn values_are_read_with_and_without_a_type() {
        assert_eq!(value("<value><int>-7</int></value>"), Ok(Value::Int(-7)));
        assert_eq!(value("<value><i4> 7 </i4></value>"), Ok(Value::Int(7)));
        assert_eq!(value("<value><boolean>1</boolean></value>"), Ok(Value::Bool(true)));
        assert_eq!(value("<value> bare &amp; free </value>"), Ok(Value::Text(" bare & free ".into())));
        assert_eq!(value("<value/>"), Ok(Value::Text(String::new())));
        assert_eq!(value("<value><string/></value>"), Ok(Value::Text(String::new())));
        assert_eq!(value("<value><string>a&lt;b&#10;<![CDATA[<c>]]></string></value>"), Ok(Value::Text("a<b\n<c>".into())));
        assert_eq!(value("<value><nil/></value>"), Ok(Value::Nil));
    }

    #[test]
    fn arrays_and_structs_nest() {
        let read = value(
            "<value><array><data>\n<value><struct>\n<member>\n<name>pid</name>\n<value><int>9</int></value>\n</member>\n\
             </struct></value>\n<value><array><data/></array></value></data></array></value>",
        )
        .unwrap();
        assert_eq!(read.items()[0].at("pid").int(), 9);
        assert_eq!(read.items()[1], Value::Array(Vec::new()));
        assert_eq!(read.items()[0].at("none"), &Value::Nil);
    }

    #[test]
    fn a_fault_has_a_code_and_a_text() {
        let xml = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>10</int></value></member>\
                   <member><name>faultString</name><value><string>BAD_NAME: x</string></value></member></struct></value></fault></methodResponse>";
        assert_eq!(answer(xml), Ok(Answer::Fault { code: 10, text: "BAD_NAME: x".into() }));
    }

    #[test]
    fn what_is_no_answer_is_an_error_in_words() {
        for bad in [
            "",
            "<html></html>",
            "<methodResponse><params><param><value><int>x</int></value>",
            "<methodResponse><params><param><value><string>&bomb;</string></value></param></params></methodResponse>",
            "<methodResponse><params><param><value><int>1",
        ] {
            assert!(answer(bad).is_err(), "{bad}");
        }
        let deep = format!("<methodResponse><params><param>{}", "<value><array><data>".repeat(100_000));
        assert!(answer(&deep).unwrap_err().contains("nested"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = Value::Text("a <b> & \"c\"\r\nü".into());
        let list = Value::Array(vec![text, Value::Int(-1), Value::Bool(false), Value::Nil]);
        let whole = Value::Struct([("k<".to_owned(), list)].into());
        let mut xml = String::new();
        write(&whole, &mut xml);
        assert_eq!(value(&xml), Ok(whole));
        assert!(
            call("a.b", &[Value::Int(1)])
                .contains("<methodName>a.b</methodName>\n<params>\n<param>\n<value><int>1</int></value>\n</param>")
        );
    }
}
