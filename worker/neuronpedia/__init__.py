"""Evidence in Neuronpedia's layout and in SAEDashboard's, read and written.

files (`layout`) → rows (`lines`, `dashboards`) → one place by feature (`spool`) → `page` (`parse`)
→ the shelf (`evidence`). And back: shelf → page → rows (`app.rows`) → files (`export`).
"""
