"""Pages for people: HTML that the server writes, over the same answers that `app.api` gives as JSON.

`page` writes templates under a strict policy, `assets` serves the files that they need. `tokens` and
`charts` make what the templates show: strips of shaded tokens, and pictures. A file a kind of page:
`features`. `routes` has them all.
"""
