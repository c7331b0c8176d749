"""Where a row lies: sky maps and regions."""
