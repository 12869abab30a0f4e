"""OpenAI's completions and chat completions, with steering.

`requests` says what is asked, `unserved` what is refused, `wanted` turns a request into the live
worker's; `text` and `chat` are the two forms of an answer, `stream` sends either in pieces, `errors`
gives every error on these routes OpenAI's shape.
"""
