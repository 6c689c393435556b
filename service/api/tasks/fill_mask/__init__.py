"""POST /fill-mask: `endpoint` checks requests, `filling` runs them, `joint` fills masks together, `masks`: text."""
