//! Text in which only the slot's number is still open.
//!
//! `%(process_num)02d` cannot be filled in before a slot exists, and scaling makes slots that no file knew
//! of; everything else (`%(program_name)s`, `%(ENV_X)s`, …) is filled in when the config is read.

use serde::{Deserialize, Serialize};
use std::fmt::Write;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    Text(String),
    /// The slot's number, as `%[0][width]d` prints it.
    Number {
        zero: bool,
        width: u8,
    },
}

impl Template {
    pub fn text(text: &str) -> Template {
        Template(vec![Piece::Text(text.to_owned())])
    }

    /// The text for slot `number`.
    pub fn render(&self, number: u32) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match *piece {
                Piece::Text(ref text) => out.push_str(text),
                Piece::Number { zero: true, width } => {
                    write!(out, "{number:0width$}", width = usize::from(width)).expect("a String takes all")
                }
                Piece::Number { zero: false, width } => {
                    write!(out, "{number:width$}", width = usize::from(width)).expect("a String takes all")
                }
            }
        }
        out
    }

    /// True if slots get different texts.
    pub fn depends_on_number(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Number { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_printed_as_printf_would() {
        let template = Template(vec![Piece::Text("w_".into()), Piece::Number { zero: true, width: 2 }, Piece::Text(".log".into())]);
        assert_eq!(template.render(3), "w_03.log");
        assert_eq!(template.render(123), "w_123.log");
        assert!(template.depends_on_number());
        assert!(!Template::text("x").depends_on_number());
    }
}
