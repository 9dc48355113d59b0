//! `environment = KEY="value",OTHER=value`: pairs as Supervisor 4.3 takes them out of Python's `shlex`.
//!
//! Its rules are odd and people's files depend on them. Words are made of letters, digits and `_/.+-():`; anything
//! else is a word by itself, so that an unquoted `a,b` breaks; a quotation is a word with its quotes, which are then
//! stripped from both ends; a backslash escapes nothing; `#` begins a comment. A pair is three words, and the fourth,
//! whatever it is, is taken for the comma. The text has been expanded before; only the slot's number is still open.

use crate::model::template::{Piece, Template};

/// Why a text is no list of pairs. Fits after "expected ".
pub const EXPECTED: &str = "pairs such as KEY=\"value\",OTHER=\"value\"";

/// One character, or a number that is not known yet and counts as a digit.
#[derive(Clone, Debug, PartialEq)]
enum Unit {
    Char(char),
    Number(Piece),
}

/// The pairs in order; a key that is there twice keeps its first place and its last value. The error is a way out.
pub fn pairs(text: &Template) -> Result<Vec<(String, Template)>, &'static str> {
    let mut pairs: Vec<(String, Template)> = Vec::new();
    for step in tokens(text)?.chunks(4) {
        let [key, equals, value, ..] = step else {
            return Err("put values with anything but letters, digits and _/.+-(): in double quotes");
        };
        if *equals != [Unit::Char('=')] {
            return Err("put values with anything but letters, digits and _/.+-(): in double quotes");
        }
        if key.iter().any(|unit| matches!(unit, Unit::Number(_))) {
            return Err("the number of a process may stand in a value, not in a variable's name");
        }
        let key = template(key).render(0);
        let is_quote = |unit: &Unit| matches!(unit, Unit::Char('\'' | '"'));
        let start = value.iter().position(|unit| !is_quote(unit)).unwrap_or(value.len());
        let end = value.iter().rposition(|unit| !is_quote(unit)).map_or(start, |at| at + 1);
        let value = template(&value[start..end]);
        match pairs.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = value,
            None => pairs.push((key, value)),
        }
    }
    Ok(pairs)
}

fn template(units: &[Unit]) -> Template {
    let mut pieces: Vec<Piece> = Vec::new();
    for unit in units {
        match (pieces.last_mut(), unit) {
            (Some(Piece::Text(text)), Unit::Char(c)) => text.push(*c),
            (_, Unit::Char(c)) => pieces.push(Piece::Text(c.to_string())),
            (_, Unit::Number(piece)) => pieces.push(piece.clone()),
        }
    }
    Template(pieces)
}

/// `shlex.shlex(text)` with `wordchars += '/.+-():'`, not POSIX.
fn tokens(text: &Template) -> Result<Vec<Vec<Unit>>, &'static str> {
    let units: Vec<Unit> = text
        .0
        .iter()
        .flat_map(|piece| match piece {
            Piece::Text(text) => text.chars().map(Unit::Char).collect(),
            Piece::Number { .. } => vec![Unit::Number(piece.clone())],
        })
        .collect();
    let mut tokens = Vec::new();
    let mut word: Vec<Unit> = Vec::new();
    let mut at = 0;
    while let Some(unit) = units.get(at) {
        at += 1;
        match unit {
            Unit::Char(' ' | '\t' | '\r' | '\n') => {
                if !word.is_empty() {
                    tokens.push(std::mem::take(&mut word));
                }
            }
            // The rest of the line is gone, and a word goes on after it: no end of word is seen.
            Unit::Char('#') => {
                while let Some(unit) = units.get(at) {
                    at += 1;
                    if *unit == Unit::Char('\n') {
                        break;
                    }
                }
            }
            Unit::Char('\'' | '"') if word.is_empty() => {
                let length = units[at..].iter().position(|other| other == unit).ok_or("a quotation never ends")?;
                tokens.push(units[at - 1..=at + length].to_vec());
                at += length + 1;
            }
            Unit::Number(_) => word.push(unit.clone()),
            // Within a word a quote is an ordinary character.
            Unit::Char(c) if c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '+' | '-' | '(' | ')' | ':' | '\'' | '"') => {
                word.push(unit.clone());
            }
            Unit::Char(_) => {
                if !word.is_empty() {
                    tokens.push(std::mem::take(&mut word));
                }
                tokens.push(vec![unit.clone()]);
            }
        }
    }
    if !word.is_empty() {
        tokens.push(word);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, &'static str> {
        let pairs = pairs(&Template::text(text))?;
        Ok(pairs.iter().map(|(key, value)| format!("{key}={}|", value.render(7))).collect())
    }

    /// Expected values are what Supervisor 4.3.0 `dict_of_key_value_pairs` gives.
    #[test]
    fn pairs_are_read_as_supervisor_reads_them() {
        for (text, expected) in [
            ("", ""),
            ("A=1,B=2", "A=1|B=2|"),
            ("A=\"x, y\",B='z'", "A=x, y|B=z|"),
            ("A=1,\n  B=2,\n", "A=1|B=2|"),
            ("A=1 , B = 2,", "A=1|B=2|"),
            ("A=1;B=2", "A=1|B=2|"),
            ("A=/a.b+c-d(e):f", "A=/a.b+c-d(e):f|"),
            ("A=b\"c d\"", "A=b\"c|"),
            ("A==1", "A==|"),
            ("A=\"\"", "A=|"),
            ("A='it\"s'", "A=it\"s|"),
            ("A=\"a\\n\"", "A=a\\n|"),
            ("A=1,A=2,B=3", "A=2|B=3|"),
            ("A=\"x\"#c\n,B=2", "A=x|B=2|"),
            ("A=x#c\ny,B=2", "A=xy|B=2|"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["A", "A=", "=1", "A=a,b", "A=1 B=2 C", "A=\"x", "A=ü,B=1,C"] {
            assert!(read(bad).is_err(), "{bad}: {:?}", read(bad));
        }
    }

    #[test]
    fn the_number_of_the_slot_stays_open() {
        let number = Piece::Number { zero: false, width: 0 };
        let text = Template(vec![Piece::Text("A=\"q".into()), number.clone(), Piece::Text("\",B=".into()), number.clone()]);
        let pairs = pairs(&text).expect("good");
        assert_eq!(pairs[0], ("A".into(), Template(vec![Piece::Text("q".into()), number.clone()])));
        assert_eq!(pairs[1], ("B".into(), Template(vec![number])));
    }
}
