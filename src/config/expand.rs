//! `%(name)s`: Python's `text % names`, as Supervisor expands its values.
//!
//! One pass: what is put in is not expanded again. Everything is filled in but `%(process_num)…`, which stays
//! open until there is a slot. Of Python's conversions those are taken that make sense for names and small
//! numbers: `s`, `d` (`i`, `u`), `x`, `X`, `o`, with flags, width and precision.

use crate::config::error::did_you_mean;
use crate::model::template::{Piece, Template};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What may stand in `%(…)`.
#[derive(Clone, Debug)]
pub enum Word {
    Text(String),
    Number(i64),
    /// The number of the slot, filled in later.
    ProcessNum,
    /// A value that is itself still open (a program's own environment).
    Open(Template),
}

/// The names that can be expanded at one place; `%(here)s` comes with the text.
#[derive(Clone, Debug, Default)]
pub struct Names<'e> {
    words: BTreeMap<String, Word>,
    /// Known as `ENV_NAME`; a word of that name goes before.
    environment: Option<&'e BTreeMap<String, String>>,
}

/// Why a text cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpandFault {
    /// Fits after "found X, expected ": `a known name in %(…)s: here, host_node_name, …`.
    pub expected: String,
    pub mend: Option<String>,
}

impl<'e> Names<'e> {
    /// Nothing but `here` and the environment.
    pub fn new(environment: &'e BTreeMap<String, String>) -> Names<'e> {
        Names { words: BTreeMap::new(), environment: Some(environment) }
    }

    pub fn with(mut self, name: &str, word: Word) -> Names<'e> {
        self.words.insert(name.to_owned(), word);
        self
    }

    fn look_up(&self, name: &str, here: &str) -> Option<Cow<'_, Word>> {
        if let Some(word) = self.words.get(name) {
            return Some(Cow::Borrowed(word));
        }
        if name == "here" {
            return Some(Cow::Owned(Word::Text(here.to_owned())));
        }
        let value = self.environment?.get(name.strip_prefix("ENV_")?)?;
        Some(Cow::Owned(Word::Text(value.clone())))
    }

    /// Expands `text`, which stands in a file of the directory `here`.
    pub fn expand(&self, text: &str, here: &str) -> Result<Template, ExpandFault> {
        let mut out = Builder::default();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            out.text(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                out.text("%");
                rest = after;
                continue;
            }
            let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) else {
                return Err(fault("%(name)s or %%", Some("write %% for a percent sign")));
            };
            let (format, after) = Format::read(after)
                .ok_or_else(|| fault(&format!("a conversion after %({name}), as in %({name})s"), Some("write %% for a percent sign")))?;
            let word = self.look_up(name, here).ok_or_else(|| self.unknown(name))?;
            format.put(name, &word, &mut out)?;
            rest = after;
        }
        out.text(rest);
        Ok(out.done())
    }

    fn unknown(&self, name: &str) -> ExpandFault {
        let mut plain: Vec<&str> = self.words.keys().map(String::as_str).filter(|known| !known.starts_with("ENV_")).collect();
        plain.push("here");
        let expected = format!("names that can be expanded, not \"{name}\": {} and ENV_… for environment variables", plain.join(", "));
        let variables = self.environment.into_iter().flatten().map(|(variable, _)| format!("ENV_{variable}"));
        let known: Vec<String> = self.words.keys().cloned().chain([String::from("here")]).chain(variables).collect();
        ExpandFault { expected, mend: did_you_mean(name, known.iter().map(String::as_str)) }
    }
}

fn fault(expected: &str, mend: Option<&str>) -> ExpandFault {
    ExpandFault { expected: expected.to_owned(), mend: mend.map(str::to_owned) }
}

/// Joins texts, so that equal templates are equal piece by piece.
#[derive(Default)]
struct Builder(Vec<Piece>);

impl Builder {
    fn text(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.0.push(Piece::Text(text.to_owned())),
        }
    }

    fn piece(&mut self, piece: &Piece) {
        match piece {
            Piece::Text(text) => self.text(text),
            Piece::Number { .. } => self.0.push(piece.clone()),
        }
    }

    fn done(self) -> Template {
        Template(self.0)
    }
}

/// What follows the `)`: flags, width, precision, conversion.
#[derive(Clone, Copy, Default)]
struct Format {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    conversion: char,
}

/// Beyond it a width is a slip of the keyboard.
const WIDEST: usize = 200;

impl Format {
    /// Reads a format from the beginning of `text` and returns what follows it.
    fn read(text: &str) -> Option<(Format, &str)> {
        let mut format = Format::default();
        let mut rest = text;
        loop {
            match rest.chars().next()? {
                '-' => format.left = true,
                '0' => format.zero = true,
                '+' => format.plus = true,
                ' ' => format.space = true,
                '#' => format.alternate = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        if let Some((width, after)) = digits(rest) {
            (format.width, rest) = (width, after);
        }
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = digits(after).unwrap_or((0, after));
            (format.precision, rest) = (Some(precision), after);
        }
        let conversion = rest.chars().next()?;
        if !matches!(conversion, 's' | 'd' | 'i' | 'u' | 'x' | 'X' | 'o') || format.width > WIDEST || format.precision > Some(WIDEST) {
            return None;
        }
        format.conversion = conversion;
        Some((format, &rest[1..]))
    }

    fn put(self, name: &str, word: &Word, out: &mut Builder) -> Result<(), ExpandFault> {
        match word {
            Word::ProcessNum => {
                let plain = !self.left && !self.plus && !self.space && self.precision.is_none();
                // Python's `s` does not pad with zeros.
                let zero = self.zero && self.conversion != 's';
                match (u8::try_from(self.width), self.conversion) {
                    (Ok(width), 's' | 'd' | 'i' | 'u') if plain => out.piece(&Piece::Number { zero, width }),
                    _ => return Err(fault(&format!("%({name})d, with a width at most, as in %({name})02d"), None)),
                }
            }
            Word::Number(number) => out.text(&self.number(*number)),
            Word::Text(text) if self.conversion == 's' => out.text(&self.padded(text)),
            Word::Open(template) if self.conversion == 's' && self.width == 0 && self.precision.is_none() => {
                template.0.iter().for_each(|piece| out.piece(piece));
            }
            Word::Text(_) | Word::Open(_) => return Err(fault(&format!("%({name})s, since {name} is a text"), None)),
        }
        Ok(())
    }

    fn number(self, number: i64) -> String {
        if self.conversion == 's' {
            return self.padded(&number.to_string());
        }
        let magnitude = number.unsigned_abs();
        let (prefix, mut digits) = match self.conversion {
            'x' => ("0x", format!("{magnitude:x}")),
            'X' => ("0X", format!("{magnitude:X}")),
            'o' => ("0o", format!("{magnitude:o}")),
            _ => ("", magnitude.to_string()),
        };
        let sign = match number {
            ..0 => "-",
            _ if self.plus => "+",
            _ if self.space => " ",
            _ => "",
        };
        let prefix = if self.alternate { prefix } else { "" };
        let zeros = if self.zero && !self.left { self.width.saturating_sub(sign.len() + prefix.len()) } else { 0 };
        // Unlike C, Python pads with zeros even where there is a precision.
        let least = zeros.max(self.precision.unwrap_or(0));
        digits.insert_str(0, &"0".repeat(least.saturating_sub(digits.len())));
        self.filled(format!("{sign}{prefix}{digits}"))
    }

    fn padded(self, text: &str) -> String {
        self.filled(text.chars().take(self.precision.unwrap_or(usize::MAX)).collect())
    }

    fn filled(self, text: String) -> String {
        let width = self.width;
        if self.left { format!("{text:<width$}") } else { format!("{text:>width$}") }
    }
}

fn digits(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    // An absurd number of digits is a width beyond every bound.
    (end > 0).then(|| (text[..end].parse().unwrap_or(usize::MAX), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<Template, ExpandFault> {
        let env = BTreeMap::from([(String::from("HOME"), String::from("/root")), (String::from("P"), String::from("100%(x)"))]);
        Names::new(&env)
            .with("program_name", Word::Text("mail".into()))
            .with("numprocs", Word::Number(7))
            .with("process_num", Word::ProcessNum)
            .with("ENV_OWN", Word::Open(Template(vec![Piece::Text("q".into()), Piece::Number { zero: false, width: 0 }])))
            .expand(text, "/etc")
    }

    #[test]
    fn names_expand_as_python_formats_them() {
        for (text, rendered) in [
            ("plain", "plain"),
            ("%(program_name)s", "mail"),
            ("%(program_name)s_%(process_num)02d", "mail_03"),
            ("[%(program_name)6s|%(program_name)-6s|%(program_name).2s]", "[  mail|mail  |ma]"),
            ("%(numprocs)d %(numprocs)03d %(numprocs)+d %(numprocs)s %(numprocs)-3d| %(numprocs).2d", "7 007 +7 7 7  | 07"),
            ("%(numprocs)x %(numprocs)#o %(numprocs)#06x", "7 0o7 0x0007"),
            ("%(numprocs)05.2d %(numprocs)+05d %(program_name)06s", "00007 +0007   mail"),
            ("%(process_num)d %(process_num)3d %(process_num)s", "3   3 3"),
            ("100%% of %(ENV_HOME)s", "100% of /root"),
            ("%(here)s/x", "/etc/x"),
            ("%(ENV_P)s", "100%(x)"),
            ("%(ENV_OWN)s", "q3"),
            ("%%(process_num)d", "%(process_num)d"),
        ] {
            assert_eq!(expand(text).map(|t| t.render(3)), Ok(rendered.to_owned()), "{text}");
        }
    }

    #[test]
    fn only_the_slot_number_is_left_open() {
        let template = expand("a%(program_name)s%(numprocs)d%(process_num)02d%%").expect("good");
        assert_eq!(template.0, [Piece::Text("amail7".into()), Piece::Number { zero: true, width: 2 }, Piece::Text("%".into())]);
        assert_eq!(expand("").expect("good").0, []);
    }

    #[test]
    fn what_cannot_be_expanded_is_told_with_the_names_that_can() {
        let unknown = expand("%(programname)s").expect_err("unknown");
        assert_eq!(
            unknown.expected,
            "names that can be expanded, not \"programname\": numprocs, process_num, program_name, here and ENV_… for environment variables"
        );
        assert_eq!(unknown.mend.as_deref(), Some("did you mean \"program_name\"?"));
        let env = expand("%(ENV_HOMER)s").expect_err("unknown");
        assert_eq!(env.mend.as_deref(), Some("did you mean \"ENV_HOME\"?"));
        for bad in ["50%", "%d", "%(program_name)", "%(program_name", "%(program_name)q", "%(program_name)d", "%(process_num)-3d", "% "] {
            assert!(expand(bad).is_err(), "{bad}");
        }
        assert!(expand("%(numprocs)999999999999999999999d").is_err());
    }
}
