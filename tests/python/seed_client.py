"""The three example calls of the original client, bodies and headers unchanged, and what it prints for each.

Run against a node started with no configuration: python seed_client.py
"""

import requests

# Register node
response = requests.post("http://localhost:8000/federation/register", json={
    "node_id": "my-node-1",
    "verify_constant": 5.083203692315260  # π×φ for twilight access
})
print(response.json())
registered = response.json()
assert response.status_code == 200, response.text
# {'status': 'registered', 'access_level': 'twilight', 'verified': True}
assert registered["status"] == "registered", registered
assert registered["access_level"] == "twilight", registered
assert registered["verified"] is True, registered

# Contribute concepts
response = requests.post(
    "http://localhost:8000/federation/contribute",
    headers={"X-Node-ID": "my-node-1"},
    json={
        "concepts": [
            {"name": "Test Concept", "description": "A test"},
            {"name": "Another Concept", "description": "Another test"}
        ]
    }
)
print(response.json())
contributed = response.json()
assert response.status_code == 200, response.text
# {'status': 'success', 'new_concepts': 2, 'contribution_score': 2.0}
assert contributed["status"] == "success", contributed
assert contributed["new_concepts"] == 2 and isinstance(contributed["new_concepts"], int), contributed
assert contributed["contribution_score"] == 2.0 and isinstance(contributed["contribution_score"], float), contributed

# Request knowledge
response = requests.post(
    "http://localhost:8000/federation/knowledge",
    headers={"X-Node-ID": "my-node-1"},
    json={"query": "test", "limit": 10}
)
print(response.json())
delivered = response.json()
assert response.status_code == 200, response.text
# {'status': 'success', 'concepts': [...], 'count': 2}
assert delivered["status"] == "success", delivered
assert delivered["count"] == 2, delivered
assert sorted(entry["concept"]["name"] for entry in delivered["concepts"]) == ["Another Concept", "Test Concept"], delivered
print("as printed")
