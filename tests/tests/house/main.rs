//! The house: its rules, and what leaves it. Nothing else belongs in this program, in which `production_binary` searches.

mod architecture;
mod production_binary;
mod scripts;
