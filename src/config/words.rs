//! A command line into words, as Python's `shlex.split` does it (POSIX, comments off), which is how Supervisor
//! reads `command`. No shell: nothing is expanded, `#`, `;`, `|` and `*` are ordinary characters.
//!
//! The text has been expanded before, so what `%(ENV_X)s` brings in is split as well. The number of a slot is
//! not known yet and is taken as a character that is part of a word.

use crate::model::template::{Piece, Template};

/// Why a text cannot be split. `Display`-like text fits after "expected ".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordsFault {
    /// A quotation that never ends; the quote.
    Open(char),
    /// A backslash at the very end.
    Escape,
}

impl WordsFault {
    /// Fits after "expected ".
    pub fn expected(self) -> String {
        match self {
            WordsFault::Open(quote) => format!("a closing {quote}"),
            WordsFault::Escape => String::from("a character after the last backslash"),
        }
    }
}

enum Mode {
    Plain,
    Quoted(char),
}

/// Splits `text` into words; none at all if there are none.
pub fn split(text: &Template) -> Result<Vec<Template>, WordsFault> {
    let mut words = Vec::new();
    let mut word: Option<Vec<Piece>> = None;
    let mut mode = Mode::Plain;
    let mut escaped = false;
    for piece in &text.0 {
        let text = match piece {
            Piece::Number { .. } => {
                if escaped {
                    // As for any ordinary character: in quotes the backslash stays.
                    escaped = false;
                    if matches!(mode, Mode::Quoted(_)) {
                        push(&mut word, '\\');
                    }
                }
                word.get_or_insert_default().push(piece.clone());
                continue;
            }
            Piece::Text(text) => text,
        };
        for c in text.chars() {
            if escaped {
                escaped = false;
                // Within double quotes a backslash only escapes itself and the quote.
                if matches!(mode, Mode::Quoted(_)) && !matches!(c, '\\' | '"') {
                    push(&mut word, '\\');
                }
                push(&mut word, c);
                continue;
            }
            match (&mode, c) {
                (Mode::Plain, ' ' | '\t' | '\r' | '\n') => words.extend(word.take().map(Template)),
                (Mode::Plain, '\'' | '"') => {
                    // Even an empty quotation is a word.
                    word.get_or_insert_default();
                    mode = Mode::Quoted(c);
                }
                (Mode::Quoted(quote), c) if *quote == c => mode = Mode::Plain,
                (Mode::Plain | Mode::Quoted('"'), '\\') => escaped = true,
                (Mode::Plain | Mode::Quoted(_), c) => push(&mut word, c),
            }
        }
    }
    match mode {
        Mode::Quoted(quote) => Err(WordsFault::Open(quote)),
        Mode::Plain if escaped => Err(WordsFault::Escape),
        Mode::Plain => {
            words.extend(word.map(Template));
            Ok(words)
        }
    }
}

fn push(word: &mut Option<Vec<Piece>>, c: char) {
    let word = word.get_or_insert_default();
    match word.last_mut() {
        Some(Piece::Text(text)) => text.push(c),
        _ => word.push(Piece::Text(c.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are what Python 3.11 `shlex.split(text)` gives.
    #[test]
    fn words_are_split_as_python_splits_them() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  ", &[]),
            ("php worker.php", &["php", "worker.php"]),
            ("a  b\tc\nd", &["a", "b", "c", "d"]),
            (r#"sh -c "echo 'hi'; exit 1""#, &["sh", "-c", "echo 'hi'; exit 1"]),
            (r#"a'b c'd"e f"g"#, &["ab cde fg"]),
            ("a '' b", &["a", "", "b"]),
            (r#""""#, &[""]),
            (r"a\ b c\\d", &["a b", r"c\d"]),
            (r#""a\"b\\c\d$""#, &[r#"a"b\c\d$"#]),
            (r"'a\b'", &[r"a\b"]),
            ("a # b", &["a", "#", "b"]),
            ("php artisan queue:work --queue=high,low", &["php", "artisan", "queue:work", "--queue=high,low"]),
            ("größe 'ß é'", &["größe", "ß é"]),
            ("a\\\nb", &["a\nb"]),
        ];
        for (text, words) in cases {
            let got: Vec<String> = split(&Template::text(text)).expect(text).iter().map(|w| w.render(0)).collect();
            assert_eq!(got, *words, "{text:?}");
        }
    }

    #[test]
    fn what_is_left_open_is_an_error() {
        for (text, fault) in [
            ("a 'b", WordsFault::Open('\'')),
            ("a \"b", WordsFault::Open('"')),
            ("a \"b\\\"", WordsFault::Open('"')),
            ("a b\\", WordsFault::Escape),
        ] {
            assert_eq!(split(&Template::text(text)), Err(fault), "{text}");
        }
    }

    #[test]
    fn the_number_of_the_slot_stays_open_within_its_word() {
        let number = Piece::Number { zero: true, width: 2 };
        let text = Template(vec![Piece::Text("php w.php --n='".into()), number.clone(), Piece::Text(" x' y".into())]);
        let words = split(&text).expect("good");
        assert_eq!(words.len(), 4);
        assert_eq!(words[2].0, [Piece::Text("--n=".into()), number, Piece::Text(" x".into())]);
    }
}
