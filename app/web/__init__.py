"""Pages for people: HTML that the server writes, over the same answers that `app.api` gives as JSON.

`page` writes templates under a strict policy, `assets` serves the files that they need. `tokens` and
`charts` make what the templates show: strips of shaded tokens, and pictures; `cloud` counts an SAE's
features, `fired` finds those that fire on a text, `context` what is around an example. A file a kind of page:
`models`, `saes`, `features`, `neurons`, `find`, `text`, `steer` (whose address `steer_query` reads), `jobs`;
`errors` for what cannot be shown. `routes` has them all.
"""
